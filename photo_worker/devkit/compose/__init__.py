"""The local stack as containers, by Docker Compose."""
