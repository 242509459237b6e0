-- Old refusals are deleted.
CREATE INDEX refusal_by_age ON market.refusal (at);
