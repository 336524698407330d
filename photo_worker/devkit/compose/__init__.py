"""The stack as containers: Docker Compose creates them; the engine's API reports and changes their state."""
