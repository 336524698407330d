"""Use cases: jobs, erasure, and the check that rows, objects and workflows are consistent."""
