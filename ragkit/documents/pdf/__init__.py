"""PDF files, by the places of their characters."""
