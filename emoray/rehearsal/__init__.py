"""Rehearsal data: signals that nobody recorded, in the publishers' formats."""
