-- By provider and credit class: the fees that use of him paid, and what the reserve paid on his account.
CREATE TABLE market.tally (
    account bytea NOT NULL,
    credit integer NOT NULL,
    fees numeric(78) NOT NULL,
    covered numeric(78) NOT NULL CHECK (covered <= fees),
    PRIMARY KEY (account, credit)
);
