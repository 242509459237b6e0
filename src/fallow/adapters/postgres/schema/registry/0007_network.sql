-- Whose database this is: what a network is known by, and the key that it signs with. Written once.
CREATE TABLE registry.network (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    net text NOT NULL,
    public_key bytea NOT NULL CHECK (length(public_key) = 32)
);
