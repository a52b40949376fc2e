"""Features: channels, frontends, backbones and poolers, and how they are run and fine-tuned."""
