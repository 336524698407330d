"""A Temporal worker that turns recipe photos into durable, structured results."""

__version__ = "0.1.0"
