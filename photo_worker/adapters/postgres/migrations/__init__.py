"""The database's schema as a line of forward steps; ``photo_worker.adapters.postgres.migrate`` runs them."""
