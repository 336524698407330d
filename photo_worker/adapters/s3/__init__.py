"""S3: objects of a bucket."""
