"""Postgres: job rows, connections, and the schema's migrations."""
