"""One file for each service of a stack: ``PORTS``, the offsets of its ports, and ``SERVICES``, what runs it."""
