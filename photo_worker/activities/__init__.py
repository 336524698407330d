"""Idempotent units of work: a class per concern that holds its ports."""
