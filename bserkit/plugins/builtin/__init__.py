"""The built-in plugins. They use the same public names as any outside plugin."""

from bserkit.plugins.builtin import (
    backbones,
    channels,
    classifiers,
    codebooks,
    corpora,
    frontends,
    fusers,
    normalisers,
    opensmile,
    poolers,
)

BUILTIN_MODULES = (
    corpora,
    channels,
    frontends,
    backbones,
    opensmile,
    poolers,
    codebooks,
    normalisers,
    classifiers,
    fusers,
)
