"""Adapters for objects and job rows: S3, Postgres, and their in-memory twins."""
