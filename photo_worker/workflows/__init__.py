"""Orchestration only: deterministic, replayable, no I/O."""
