"""A local server that speaks Amazon Textract's wire protocol and reads the documents it is given."""
