"""Temporal workflows: deterministic and replayable, without I/O."""
