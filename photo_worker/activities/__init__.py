"""Idempotent Temporal activities: one class per concern, which holds its ports."""
