-- What accounts spent in the month (years of twelve months) in which they last spent, and may spend in each.
CREATE TABLE ledger.budget (
    account bytea PRIMARY KEY CHECK (length(account) = 20),
    month integer NOT NULL,
    spent numeric(78) NOT NULL,
    budget numeric(78) CHECK (budget >= 0),
    reached boolean NOT NULL DEFAULT false
) WITH (fillfactor = 50); -- as the ledger's accounts: each round of the market writes rows anew
