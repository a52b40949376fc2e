"""A probe: a plugin is imported in a process of its own, which tells what that took."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.component import Component, identity
from bserkit.errors import BserkitError
from bserkit.features.backbones import Backbone
from bserkit.plugins.registry import import_file, load_plugins
from bserkit.testing.recipes import examples_of

if TYPE_CHECKING:
    from collections.abc import Iterable

#: What takes a tenth of a second or more to import, so that it is imported where it is used.
HEAVY = frozenset(
    {
        *("matplotlib", "mlflow", "opensmile", "pandas", "pyarrow", "scipy", "skops", "sklearn", "tensorflow"),
        *("torch", "torchaudio", "torchvision", "transformers"),
    }
)


class _Watch:
    """A finder of modules that finds none, but remembers from where the heavy ones were asked for."""

    def __init__(self) -> None:
        self.found: dict[str, str] = {}

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name in HEAVY and name not in self.found:
            frames = [one for one in traceback.extract_stack() if "importlib" not in one.filename]
            self.found[name] = f"{frames[-2].filename}:{frames[-2].lineno}" if len(frames) > 1 else ""


def identities(components: Iterable[Component]) -> dict[str, str]:
    """Return by kind and name a digest of what each component's work is known by."""
    found = {}
    for one in components:
        known: list[Any] = [identity(one)]
        try:
            known += [one.recipe(), one.weights_digest()] if isinstance(one, Backbone) else []
        except BserkitError:
            # Its weights are not here.
            known.append("without weights")
        text = json.dumps(known, sort_keys=True, default=str)
        found[f"{one.kind} {one.name}"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def probe(plugin: str) -> dict[str, Any]:
    """Import a plugin, and return how long that took, which heavy modules it brought in and its components' digests.

    Args:
        plugin: a file that ends in ``.py``, or the name of a module.
    """
    # What every plugin needs counts for none.
    load_plugins(outside=False)
    watch = _Watch()
    sys.meta_path.insert(0, watch)
    before = time.process_time()
    module = import_file(Path(plugin)) if plugin.endswith(".py") else importlib.import_module(plugin)
    loaded = load_plugins(outside=False, modules=[module])
    seconds = time.process_time() - before
    sys.meta_path.remove(watch)
    own = (one.component for one in loaded.registered if one.source.module == module.__name__)
    return {"seconds": seconds, "heavy": watch.found, "identities": identities(examples_of(own))}
