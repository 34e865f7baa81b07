"""What is kept and shown of a result: documents, journals, tables."""
