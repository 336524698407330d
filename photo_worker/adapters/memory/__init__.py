"""Adapters that hold their state in memory: for tests, and for experiments without a stack."""
