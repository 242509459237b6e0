-- What nodes were paid for checks from the network's starting credit, with what is held for those that run, in
-- micro-US-dollars, by the day (since 1970, UTC) on which they were given the check.
CREATE TABLE market.starting_credit (
    node bytea NOT NULL,
    day integer NOT NULL,
    spent numeric(78) NOT NULL CHECK (spent >= 0),
    PRIMARY KEY (node, day)
);
