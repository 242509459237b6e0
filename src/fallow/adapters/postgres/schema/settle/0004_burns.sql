-- Tokens that were burned for credits, and wait for a price that holds. What is credited goes.
CREATE TABLE settle.burn (
    pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    chain bigint NOT NULL,
    transaction bytea NOT NULL CHECK (length(transaction) = 32),
    place bigint NOT NULL,
    account bytea NOT NULL CHECK (length(account) = 20),
    amount numeric(78) NOT NULL CHECK (amount > 0),
    UNIQUE (chain, transaction, place)
);

-- What feeds said last of the price, and the last one that held.
CREATE TABLE settle.oracle (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    doc bytea NOT NULL
);
