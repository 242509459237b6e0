-- What operators said of what verticals' new subscriptions pay, in that order, and from when it holds. `tariff` (JSON)
-- has a price for each meter.
CREATE TABLE registry.tariff (
    pos bigint PRIMARY KEY,
    id text NOT NULL UNIQUE,
    at bigint NOT NULL,
    -- Who said it: an account, by one of its API keys.
    account bytea NOT NULL CHECK (length(account) = 20),
    key_id text NOT NULL,
    from_ms bigint NOT NULL CHECK (from_ms >= at),
    vertical text NOT NULL,
    tariff text NOT NULL
);
CREATE FUNCTION registry.refuse_change_of_tariff() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was said of tariffs is append-only';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.tariff
    EXECUTE FUNCTION registry.refuse_change_of_tariff();
