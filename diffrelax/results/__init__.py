"""What is kept and shown of a result: documents, journals, rows and tables."""
