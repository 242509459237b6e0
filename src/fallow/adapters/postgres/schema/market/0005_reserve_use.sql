-- What the reserve paid about a lease that ended, by provider (account) and reason: micro-US-dollars to its buyer and to him.
CREATE TABLE market.reserve_use (
    lease bytea PRIMARY KEY REFERENCES market.lease,
    account bytea NOT NULL,
    reason text NOT NULL,
    refunded numeric(78) NOT NULL,
    made_good numeric(78) NOT NULL
);
