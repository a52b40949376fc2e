"""Targets: what a user names on the command line becomes the checks of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from bserkit.component import build, parse_specs
from bserkit.errors import UsageError, nearest
from bserkit.plugins.registry import KINDS
from bserkit.testing.checks import Check, checks_of, component_checks, plugin_checks, whole_checks
from bserkit.testing.plugins import Plugin

if TYPE_CHECKING:
    from bserkit.plugins.registry import Plugins, Registered, Source

#: Where the modules of packages lie below the folder that is named.
_PACKAGES = ("__init__.py", "src/*/__init__.py")


def checks_named(target: str, loaded: Plugins, data: Path | None = None) -> Iterator[Check]:
    """Yield the checks of what is named: of a component and its plugin, or of a plugin and all its components.

    Args:
        target: of a component ``name:key=value``, or ``plugin/name`` where several have the name; of a plugin its
            own name, its distribution's or its module's. What is none of these may be a folder: see ``checks_at``.
        loaded: what there is to choose from.

    Raises:
        UsageError: there is nothing of the name, or a component cannot be made of what is given.
    """
    components = _meant(target.partition(":")[0], loaded)
    plugins = [source for source in loaded.outside if target in _names(source)]
    if components:
        yield from _checks_by_spec(target, components, loaded, data)
    elif plugins:
        for source in plugins:
            yield from plugin_checks(Plugin(source, loaded), data)
    elif Path(target).is_dir():
        yield from checks_at(Path(target), data)
    else:
        known = {one.component.name for one in loaded.registered} | {one.name for one in loaded.outside}
        raise UsageError(
            f"There is no component, plugin or installed package {target!r}{nearest(target, sorted(known))}. Give a "
            "name that 'bserkit components' or 'bserkit plugins' lists, or a file that ends in .py."
        )


def _meant(name: str, loaded: Plugins) -> list[Registered]:
    """Return the components, one of a kind at most, that a name means; with its plugin's before it the plugin's."""
    _, slash, plain = name.rpartition("/")
    several = {kind: loaded.of_kind(kind).get(plain, []) for kind in KINDS}
    kinds = [kind for kind, found in several.items() if any(not slash or one.qualified == name for one in found)]
    return [loaded.find(kind, name) for kind in kinds]


def checks_at(path: Path, data: Path | None = None) -> Iterator[Check]:
    """Yield the checks of a file or a folder of single-file plugins, or of a package, installed or not.

    Args:
        path: of a package its own folder, or that of its project, which has it below ``src`` or in itself.

    Raises:
        UsageError: there is nothing.
    """
    if not path.exists():
        raise UsageError(f"There is no file or folder {path}. Give the name of a component or a plugin, or its file.")
    packages = [one.parent for pattern in _PACKAGES for one in sorted(path.glob(pattern))] if path.is_dir() else []
    if not packages:
        yield from checks_of(path, data)
    for package in packages:
        folder = str(package.parent.resolve())
        sys.path.insert(0, folder)
        try:
            yield from checks_of(importlib.import_module(package.name), data)
        finally:
            sys.path.remove(folder)


def checks_of_all(loaded: Plugins, data: Path | None = None) -> Iterator[Check]:
    """Yield the checks of every plugin that is not built in, and of its components."""
    for source in loaded.outside:
        yield from plugin_checks(Plugin(source, loaded), data)


def _checks_by_spec(target: str, components: list[Registered], loaded: Plugins, data: Path | None) -> Iterator[Check]:
    """Yield the checks of each component that a spelling may mean, and those of its plugin."""
    specs = parse_specs(target)
    if len(specs) > 1:
        raise UsageError(f"One component was expected, but {target!r} names {len(specs)}.")
    for one in components:
        made = build(one.component, specs[0])
        if one.source in loaded.outside:
            yield from whole_checks(Plugin(one.source, loaded))
        yield from component_checks(made, data, one.source)


def _names(source: Source) -> set[str]:
    """Return what a plugin may be called."""
    distribution, comma, value = source.location.partition(", ")
    packaged = {distribution, distribution.replace("-", "_"), value.partition(":")[0]} if comma else set()
    return {source.name, source.module, *packaged}
