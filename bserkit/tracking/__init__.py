"""Tracking: runs in MLflow; nothing outside this folder knows it."""
