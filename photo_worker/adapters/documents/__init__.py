"""Opens documents in a separate process: refuses what OCR would refuse, and converts what OCR cannot read."""
