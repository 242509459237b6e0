-- What an account pays for a byte and millisecond, and for a byte that is read, in 10^-36 micro-US-dollars: by the tariff
-- of the subscription that its use was told to last. Who is not here pays by that of this version.
CREATE TABLE storage.rate (
    account bytea PRIMARY KEY CHECK (length(account) = 20),
    stored numeric(78) NOT NULL,
    egress numeric(78) NOT NULL
);

-- The same for those whose nodes hold pieces: the mean over what lies there, by whose it is.
CREATE TABLE storage.mean_rate (
    payee bytea PRIMARY KEY CHECK (length(payee) = 20),
    stored numeric(78) NOT NULL,
    egress numeric(78) NOT NULL
);

-- What was used on a day came to so much at the rates of the moment; of nodes it is what is left after the fee of the moment.
ALTER TABLE storage.day ADD COLUMN cost numeric(78) NOT NULL DEFAULT 0;
ALTER TABLE storage.lender_day ADD COLUMN earned numeric(78) NOT NULL DEFAULT 0;

-- Before there was one tariff; the fee was a tenth unless somebody had set another.
UPDATE storage.day
SET cost = byte_ms * 643004115226337448560 + egress * 2222222222222222222222222222223;
UPDATE storage.lender_day
SET earned = div((byte_ms * 643004115226337448560 + egress * 2222222222222222222222222222223) * 9, 10);
