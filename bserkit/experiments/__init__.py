"""Experiments: settings, a run, a sweep, an export of features."""
