"""PostgreSQL behind the database, ledger and store ports."""
