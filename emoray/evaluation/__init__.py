"""Evaluation: folds, read-outs and metrics."""
