-- Double entry. The rules are in fallow.domain.ledger; what stands here is the second line: it lets no row in that
-- contradicts itself, and nothing that was accepted is ever changed.

CREATE SCHEMA ledger;

CREATE TABLE ledger.account (
    id bytea PRIMARY KEY,
    -- Short key for ledger.entry and for updates.
    no bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    ledger integer NOT NULL,
    code integer NOT NULL,
    flags smallint NOT NULL,
    debits_pending numeric(78) NOT NULL DEFAULT 0,
    debits_posted numeric(78) NOT NULL DEFAULT 0,
    credits_pending numeric(78) NOT NULL DEFAULT 0,
    credits_posted numeric(78) NOT NULL DEFAULT 0,
    CONSTRAINT account_well_formed CHECK (octet_length(id) = 16 AND ledger > 0 AND code > 0),
    CONSTRAINT account_not_negative
        CHECK (debits_pending >= 0 AND debits_posted >= 0 AND credits_pending >= 0 AND credits_posted >= 0),
    CONSTRAINT account_debits_within_credits
        CHECK (flags & 2 = 0 OR debits_pending + debits_posted <= credits_posted),
    CONSTRAINT account_credits_within_debits
        CHECK (flags & 4 = 0 OR credits_pending + credits_posted <= debits_posted)
) WITH (fillfactor = 50); -- room on each page for the next version of its rows (HOT updates)

-- One number per batch; a transfer's seq is this number * 8192 + its place in the batch.
CREATE SEQUENCE ledger.block;

CREATE TABLE ledger.transfer (
    seq bigint PRIMARY KEY,
    id bytea UNIQUE, -- NULL for an expiry, which has no sender
    debit bytea NOT NULL,
    credit bytea NOT NULL,
    amount numeric(78) NOT NULL,
    ledger integer NOT NULL,
    code integer NOT NULL,
    flags smallint NOT NULL, -- 1 linked, 2 pending, 4 post, 8 void, 16384 expiry
    pending_id bytea,
    timeout_s integer NOT NULL,
    ref bytea NOT NULL,
    created_ms bigint NOT NULL,
    CONSTRAINT transfer_well_formed CHECK (
        amount >= 0
        AND debit <> credit
        AND (id IS NULL) = (flags & 16384 <> 0)
        AND (pending_id IS NULL) = (flags & 16396 = 0)
        AND (timeout_s = 0 OR flags & 2 <> 0)
        AND octet_length(ref) <= 32
    )
);

-- A pending transfer is resolved at most once, by a post, a void or an expiry.
CREATE UNIQUE INDEX transfer_resolves ON ledger.transfer (pending_id) WHERE pending_id IS NOT NULL;

-- The statement of each account: two rows per transfer, written in the order of the key, which costs half of what two
-- indexes on ledger.transfer do (docs/adr/0003-ledger.md).
CREATE TABLE ledger.entry (
    account bigint NOT NULL,
    seq bigint NOT NULL,
    PRIMARY KEY (account, seq)
);

-- The open timeouts; the only rows here that come and go.
CREATE TABLE ledger.deadline (
    expires_ms bigint NOT NULL,
    pending_id bytea NOT NULL,
    PRIMARY KEY (expires_ms, pending_id)
);

CREATE FUNCTION ledger.refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% on %.% is refused: the ledger is append-only', TG_OP, TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END $$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.transfer
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.entry
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();
CREATE TRIGGER accounts_stay BEFORE DELETE OR TRUNCATE OR UPDATE OF id, no, ledger, code, flags ON ledger.account
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse();

-- Many 16-byte ids in one value: an array parameter costs the client three times as much.
CREATE FUNCTION ledger.ids(packed bytea) RETURNS bytea[] LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT coalesce(array_agg(substring(packed FROM n * 16 + 1 FOR 16)), '{}')
    FROM generate_series(0, octet_length(packed) / 16 - 1) AS n
$$;
