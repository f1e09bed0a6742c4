"""Runs that belong together: a table of a paper, a comparison; planned, scheduled, shown."""
