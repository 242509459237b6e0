-- To whom an account is paid, where it has ever signed that: now, and from a time on (milliseconds since 1970).
CREATE TABLE registry.payee (
    account bytea PRIMARY KEY REFERENCES registry.account,
    paid_to bytea NOT NULL CHECK (length(paid_to) = 20),
    pending bytea NOT NULL,
    effective_at bigint NOT NULL,
    signed_at_s bigint NOT NULL
);
