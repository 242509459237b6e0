-- What validators add to seeds, pledged before the operator commits to his part. Neither pledge nor part ever changes.
CREATE TABLE checks.part (
    number bigint NOT NULL,
    validator bytea NOT NULL,
    pledge bytea NOT NULL,
    part bytea,
    PRIMARY KEY (number, validator)
);
