"""Opening documents in a process of their own: what OCR would refuse is refused, what it cannot read is converted."""
