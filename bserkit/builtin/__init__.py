"""The built-in plugins. They use the same public names as any outside plugin."""

from bserkit.builtin import backbones, channels, classifiers, corpora, frontends, fusers, poolers

BUILTIN_MODULES = (corpora, channels, frontends, backbones, poolers, classifiers, fusers)
