"""Who sends a request: signatures of version 4 and 2, presigned URLs, chunks that are signed one by one, and forms."""
