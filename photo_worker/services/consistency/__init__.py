"""Integrity of rows, objects and workflows: rules, a scan that finds their breaches, safe repairs, and erasure."""
