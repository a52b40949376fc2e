"""Modules: where the code of a module lies, and which distribution's version names it, without importing anything."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import sys
from dataclasses import dataclass, field
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

#: The project of pluggy, and the group of entry points that plugins are found by.
PROJECT = "bserkit"
#: Distributions that have another name than what is imported of them; to look that up takes half a second.
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
_INSTALLED = frozenset({"site-packages", "dist-packages"})


@dataclass(frozen=True)
class Place:
    """Where a module lies: its file, if it has one, and the folders of its submodules, if it is a package."""

    name: str
    file: Path | None
    folders: tuple[str, ...] = ()
    loader: Any = field(default=None, compare=False)

    @property
    def package(self) -> str:
        """What its relative imports count from; empty for a single file."""
        return self.name if self.folders else self.name.rpartition(".")[0]

    @property
    def label(self) -> str:
        """What it is called wherever it lies."""
        return self.file.stem if self.file and not self.package else self.name

    @property
    def installed(self) -> bool:
        """Whether it came with a distribution, whose version names it."""
        where = self.file or Path(next(iter(self.folders), ""))
        return not _INSTALLED.isdisjoint(where.parts)

    def content(self) -> bytes:
        """Read the file, or what an archive holds of it; nothing where that cannot be done."""
        if self.file is None:
            return b""
        try:
            return self.file.read_bytes()
        except OSError:
            pass
        try:
            return bytes(self.loader.get_data(str(self.file)))
        except (OSError, AttributeError):
            return b""

    def beside(self) -> list[Place]:
        """Return every module of the same package, or of a single file's folder, that has a source."""
        if not self.package:
            folder = self.file.parent if self.file else Path()
            packages = [one.parent for one in folder.glob("*/__init__.py")]
            files = [*folder.glob("*.py"), *(path for one in packages for path in one.rglob("*.py"))]
            return [Place(_dotted(path, folder), path, _folders(path)) for path in files]
        top = find(top_of(self.package))
        found = []
        for folder in map(Path, top.folders if top else ()):
            found += [Place(_dotted(path, folder.parent), path, _folders(path)) for path in folder.rglob("*.py")]
        return found


def _dotted(path: Path, folder: Path) -> str:
    return ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__")


def _folders(path: Path) -> tuple[str, ...]:
    return (str(path.parent),) if path.name == "__init__.py" else ()


def find(name: str, folder: Path | None = None) -> Place | None:
    """Return where a module lies, loaded or not.

    Args:
        folder: where its top-level package is looked for; by default where Python would.
    """
    loaded = sys.modules.get(name) if folder is None else None
    if loaded is not None and (place := _place_of_loaded(name, loaded)):
        return place
    parent, _, _ = name.rpartition(".")
    try:
        if parent:
            around = find(parent, folder)
            spec = PathFinder.find_spec(name, list(around.folders)) if around and around.folders else None
        elif folder:
            spec = PathFinder.find_spec(name, [str(folder)])
        else:
            spec = importlib.util.find_spec(name) if loaded is None else None
    except Exception:
        # Finders are anybody's code.
        return None
    return _place_of_spec(name, spec) if spec else None


def forget(folder: Path) -> None:
    """Have Python read anew what it imported from a folder: files there may have changed since."""
    roots = tuple(f"{one}{os.sep}" for one in (folder.absolute(), folder.resolve()))
    for name in set(sys.modules) - {"__main__"}:
        place = _place_of_loaded(name, sys.modules[name])
        if place and not place.installed and f"{place.file or place.folders[0]}".startswith(roots):
            del sys.modules[name]
    importlib.invalidate_caches()


def _place_of_loaded(name: str, module: object) -> Place | None:
    file, folders = getattr(module, "__file__", None), getattr(module, "__path__", None)
    # Anything may stand in for a module and answer to any name.
    try:
        found = tuple(map(str, folders or ()))
    except TypeError:
        found = ()
    if not isinstance(file, str) and not found:
        return None
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return Place(name, Path(file).absolute() if isinstance(file, str) else None, found, loader)


def _place_of_spec(name: str, spec: ModuleSpec) -> Place | None:
    file = Path(spec.origin).absolute() if spec.has_location and spec.origin else None
    folders = tuple(map(str, spec.submodule_search_locations or ()))
    return Place(name, file, folders, spec.loader) if file or folders else None


def distribution_of(top: str, place: Place) -> tuple[str, str] | None:
    """Return name and version of the distribution that a top-level package belongs to, or None where it is in none."""
    try:
        return _described(importlib.metadata.distribution(_DISTRIBUTIONS.get(top, top)))
    except (importlib.metadata.PackageNotFoundError, ValueError):
        pass
    for entry in importlib.metadata.entry_points(group=PROJECT):
        if top_of(entry.value.partition(":")[0]) == top and entry.dist:
            return _described(entry.dist)
    folders = [Path(folder).parent for folder in place.folders] or ([place.file.parent] if place.file else [])
    return next((one for folder in folders if (one := _around(top, folder, _changed(folder)))), None)


def top_of(module: str) -> str:
    """Return the top-level package of a module."""
    return module.partition(".")[0]


def _described(one: importlib.metadata.Distribution) -> tuple[str, str]:
    """Return a distribution's name and version without parsing the pages of description that may follow them."""
    head, _, _ = (one.read_text("METADATA") or one.read_text("PKG-INFO") or "").partition("\n\n")
    found = dict(re.findall(r"^(Name|Version): *(.*?)\s*$", head, flags=re.MULTILINE))
    return found.get("Name", "unknown"), found.get("Version", "unknown")


def _changed(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.is_dir() else 0


@cache
def _around(top: str, folder: Path, changed: int) -> tuple[str, str] | None:
    """Look through every distribution in a folder, which was changed last then."""
    for one in importlib.metadata.distributions(path=[str(folder)]):
        try:
            named = (one.read_text("top_level.txt") or "").split()
            files = "\n" + (one.read_text("RECORD") or "")
            if top in named or f"\n{top}/" in files or f"\n{top}.py," in files:
                return _described(one)
        except (OSError, TypeError, KeyError, ValueError):
            # Left-overs of a broken installation.
            continue
    return None
