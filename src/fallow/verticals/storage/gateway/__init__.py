"""The buyers' side: S3."""
