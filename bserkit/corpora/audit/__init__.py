"""The audit: what in a corpus could fool the numbers."""
