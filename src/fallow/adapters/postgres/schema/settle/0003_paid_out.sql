-- Closed epochs whose earnings in paid credits have left the ledger.
CREATE TABLE settle.paid_out (
    epoch bigint PRIMARY KEY
);
