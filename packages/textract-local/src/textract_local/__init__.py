"""Amazon Textract on this machine: a reader of documents, and a server with Textract's API."""

__version__ = "0.1.0"
