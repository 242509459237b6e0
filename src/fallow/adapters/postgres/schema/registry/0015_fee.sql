-- What operators said of the network's fee and the reserve's part of it, in that order, and from when it holds.
CREATE TABLE registry.fee (
    pos bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    at bigint NOT NULL,
    -- Who said it: an account, by one of its API keys.
    account bytea NOT NULL CHECK (length(account) = 20),
    key_id text NOT NULL,
    from_ms bigint NOT NULL CHECK (from_ms >= at),
    fee_ppm bigint NOT NULL CHECK (fee_ppm BETWEEN 0 AND 500000),
    reserve_ppm bigint NOT NULL CHECK (reserve_ppm BETWEEN 0 AND 1000000)
);
CREATE FUNCTION registry.refuse_change_of_fee() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was said of the fee is append-only';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.fee
    EXECUTE FUNCTION registry.refuse_change_of_fee();
