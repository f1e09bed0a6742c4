"""Rows of evaluated runs, what papers published, and the statistics between them."""
