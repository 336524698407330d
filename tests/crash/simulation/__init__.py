"""A Temporal service, workers and clients in one process: real workflows and activities, seeded order, virtual time."""
