"""OCR backends, by name, and the checks of what they return."""
