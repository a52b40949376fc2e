"""Identity: what a component is by its meaning, so that kept results are told from outdated ones."""
