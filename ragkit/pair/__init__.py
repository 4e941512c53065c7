"""The pair model: one small encoder that reads a question or a statement beside a passage."""
