"""OCR backends and the Textract block structure."""
