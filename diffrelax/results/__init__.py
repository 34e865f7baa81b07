"""Results: documents, stores, rows, tables and reports."""
