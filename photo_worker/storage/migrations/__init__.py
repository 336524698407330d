"""The database's schema as a line of forward steps; ``photo_worker.storage.migrate`` runs them."""
