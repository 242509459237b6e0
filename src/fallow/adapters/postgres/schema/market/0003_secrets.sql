-- Secret values of open jobs, encrypted. A row is deleted in the transaction that ends its job.
CREATE TABLE market.secret (
    job text PRIMARY KEY REFERENCES market.job,
    locked bytea NOT NULL
);
