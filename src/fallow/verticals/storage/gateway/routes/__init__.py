"""What S3's operations do, a file for each kind."""
