"""What is given by options, a configuration file and the environment, put together: values, plugins and the store."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.experiments.settings import read_config
from bserkit.plugins.registry import load_plugins
from bserkit.store import FeatureStore, default_folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bserkit.plugins.registry import Plugins


def given_values(given: Mapping[str, Any]) -> tuple[dict[str, Any], Plugins]:
    """Return what was given over what the configuration file says, not yet checked, and the plugins to check it by.

    Args:
        given: values by setting, ``-`` or ``_`` in their names; None counts as not given. ``config`` names a file.

    Raises:
        UsageError: the configuration file cannot be read.
    """
    values = read_config(Path(given["config"])) if given.get("config") else {}
    values |= {key.replace("_", "-"): value for key, value in given.items() if value is not None and key != "config"}
    if folders := os.environ.get("BSERKIT_PLUGINS_DIR"):
        values.setdefault("plugins-dir", folders)
    return values, given_plugins(values.get("plugins-dir"), outside=not values.get("no-plugins"))


def given_plugins(folders: str | None, outside: bool = True) -> Plugins:
    """Load the built-in plugins and, unless ``outside`` is false, those installed and those of a list of folders.

    Args:
        folders: as PATH is one; by default what BSERKIT_PLUGINS_DIR names.
    """
    folders = folders or os.environ.get("BSERKIT_PLUGINS_DIR")
    return load_plugins([Path(folder) for folder in str(folders).split(os.pathsep)] if folders else [], outside)


def given_store(folder: str | Path | None) -> FeatureStore:
    """Return the feature store that was asked for, that BSERKIT_CACHE names, or the user's own."""
    folder = folder or os.environ.get("BSERKIT_CACHE")
    # Whole, since threads may still write when the working folder changes.
    return FeatureStore(Path(folder).expanduser().absolute() if folder else default_folder())
