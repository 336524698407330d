"""Models that are exchanged between processes. No I/O."""
