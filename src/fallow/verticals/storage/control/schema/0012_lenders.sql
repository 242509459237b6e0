-- Owners ask for their own nodes, page by page.
CREATE INDEX node_account ON storage.node (account, node);
