"""The corpus: cut segments on disk, an index beside them, and what they were made from."""
