-- What accounts asked of their nodes' rules in the console, and what came of it. Lines are only added; they go with their account.
CREATE TABLE registry.rules (
    pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL,
    at bigint NOT NULL,
    node bytea NOT NULL CHECK (length(node) = 32),
    account bytea NOT NULL CHECK (length(account) = 20),
    key_id text NOT NULL,
    what text NOT NULL CHECK (what IN ('asked', 'taken', 'refused')),
    code text NOT NULL,
    rules text NOT NULL,
    UNIQUE (id, what)
);
CREATE INDEX rules_by_node ON registry.rules (node, pos);
CREATE INDEX rules_by_account ON registry.rules (account);
CREATE FUNCTION registry.refuse_change_of_rules() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'what was asked is append-only';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR TRUNCATE ON registry.rules
    EXECUTE FUNCTION registry.refuse_change_of_rules();
