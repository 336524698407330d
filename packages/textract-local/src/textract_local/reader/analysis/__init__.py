"""Document analysis: find a page's tables, forms and layout from its words and marks."""
