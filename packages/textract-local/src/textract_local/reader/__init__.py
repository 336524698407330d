"""Read documents into Textract's blocks."""
