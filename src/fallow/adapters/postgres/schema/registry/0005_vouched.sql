-- Whose owner the operator has identified, and how. Who did it, and who took it back, is in registry.action.
ALTER TABLE registry.account ADD COLUMN vouched_reason text NOT NULL DEFAULT '';
CREATE INDEX account_vouched ON registry.account (account) WHERE vouched_reason <> '';
