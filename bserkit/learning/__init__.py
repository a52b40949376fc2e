"""Learning: classifiers on pooled features, and the fusion of channels."""
