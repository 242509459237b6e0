CREATE SCHEMA settle;

CREATE TABLE settle.subscription (
    key bytea PRIMARY KEY CHECK (length(key) = 16),
    id text NOT NULL,
    account bytea NOT NULL CHECK (length(account) = 20),
    state text NOT NULL,
    due_at bigint NOT NULL,
    doc bytea NOT NULL,
    UNIQUE (account, id)
);

CREATE INDEX subscription_due ON settle.subscription (due_at) WHERE state <> 'ended';
CREATE INDEX subscription_suspended ON settle.subscription (account) WHERE state = 'suspended';

CREATE TABLE settle.meter (
    subscription bytea NOT NULL REFERENCES settle.subscription,
    payee bytea NOT NULL CHECK (length(payee) = 20),
    name text NOT NULL,
    quantity numeric(78) NOT NULL,
    settled numeric(78) NOT NULL CHECK (settled <= quantity),
    PRIMARY KEY (subscription, payee, name)
);

CREATE TABLE settle.report (
    subscription bytea NOT NULL REFERENCES settle.subscription,
    source text NOT NULL,
    payee bytea NOT NULL CHECK (length(payee) = 20),
    name text NOT NULL,
    quantity numeric(78) NOT NULL,
    PRIMARY KEY (subscription, source, payee, name)
);
