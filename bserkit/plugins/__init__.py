"""Plugins: hook specifications, the registry, the built-in components."""
