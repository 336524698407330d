"""The stack as containers: Docker Compose makes them, and the engine's own API tells and changes how they are."""
