"""Document analysis: what a page's words and marks say about its tables, forms and layout."""
