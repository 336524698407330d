"""Adapters: what implements the ports on S3, Postgres, Temporal, Textract and in memory."""
