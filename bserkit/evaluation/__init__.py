"""Evaluation: cross-validation, metrics, statistics over speakers, the schema of results, comparisons."""
