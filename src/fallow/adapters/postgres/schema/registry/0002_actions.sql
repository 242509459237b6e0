-- Who is banned, and what people did to bring it about.

ALTER TABLE registry.account ADD COLUMN banned_reason text NOT NULL DEFAULT '';
CREATE INDEX node_by_account ON registry.node (account);
CREATE INDEX node_banned ON registry.node (node) WHERE banned_reason <> '';
CREATE INDEX account_banned ON registry.account (account) WHERE banned_reason <> '';

-- Rows are only ever added; a trigger refuses everything else.
CREATE TABLE registry.action (
    pos bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id text NOT NULL UNIQUE,
    at bigint NOT NULL,
    -- Who did it: an account, by one of its API keys.
    account bytea NOT NULL,
    key_id text NOT NULL,
    what text NOT NULL,
    -- To whom: a node (32 bytes) or an account (20 bytes).
    subject bytea NOT NULL,
    reason text NOT NULL
);

CREATE FUNCTION registry.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'actions are append-only';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON registry.action
    EXECUTE FUNCTION registry.refuse_change();
