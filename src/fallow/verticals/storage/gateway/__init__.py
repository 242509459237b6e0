"""The buyers' side of storage: S3 over HTTP, as an ASGI application on the `Store` protocol."""
