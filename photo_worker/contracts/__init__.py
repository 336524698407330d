"""Models that cross a process boundary. No I/O."""
