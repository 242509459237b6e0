-- Where an account is told of its alerts: one address of each kind. What its holder must know to confirm it, to check
-- what comes and to stop it follows from `salt` and the network's own seed.
CREATE TABLE registry.alert_channel (
    account bytea NOT NULL REFERENCES registry.account,
    kind text NOT NULL CHECK (kind IN ('email', 'webhook')),
    address text NOT NULL,
    language text NOT NULL,
    salt bytea NOT NULL UNIQUE CHECK (length(salt) = 16),
    asked_at bigint NOT NULL,
    confirmed_at bigint,
    tries int NOT NULL DEFAULT 0,
    looked_at bigint NOT NULL DEFAULT 0,
    failed_at bigint,
    failure text NOT NULL DEFAULT '',
    PRIMARY KEY (account, kind)
);
CREATE INDEX alert_channel_by_look ON registry.alert_channel (looked_at) WHERE confirmed_at IS NOT NULL;

-- The alerts that it was told of and that have not ended.
CREATE TABLE registry.alert_told (
    account bytea NOT NULL,
    kind text NOT NULL,
    alerts bytea NOT NULL,
    PRIMARY KEY (account, kind),
    FOREIGN KEY (account, kind) REFERENCES registry.alert_channel ON DELETE CASCADE
);

-- What is to be sent, in the order of `seq` for each salt. It stays until it was sent, or given up.
CREATE TABLE registry.alert_message (
    seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account bytea NOT NULL,
    kind text NOT NULL,
    address text NOT NULL,
    language text NOT NULL,
    salt bytea NOT NULL,
    what text NOT NULL CHECK (what IN ('confirm', 'alerts', 'stopped')),
    body bytea NOT NULL,
    made_at bigint NOT NULL,
    due_at bigint NOT NULL,
    tries int NOT NULL DEFAULT 0
);
CREATE INDEX alert_message_by_salt ON registry.alert_message (salt, seq);
CREATE INDEX alert_message_by_time ON registry.alert_message (due_at);

-- How much was written in a day: to an account, to an address (by its hash), and by the whole network.
CREATE TABLE registry.alert_count (
    key bytea NOT NULL,
    day bigint NOT NULL,
    sent int NOT NULL,
    PRIMARY KEY (key, day)
);
