"""A new plugin: a package or a single file with one component that works, to be changed into another."""

from __future__ import annotations

import re
from importlib.metadata import version
from typing import TYPE_CHECKING

from bserkit.component import is_name
from bserkit.errors import UsageError, nearest
from bserkit.plugins.registry import CONTRACTS

if TYPE_CHECKING:
    from pathlib import Path

    from bserkit.plugins.registry import Plugins

#: The hook of each kind that plugins may add to.
HOOKS = {contract.kind: hook for hook, contract in CONTRACTS.items()}


def new_plugin(kind: str, name: str, folder: Path, loaded: Plugins, single_file: bool = False) -> list[Path]:
    """Write a new plugin into a folder and return its files: a package ``bserkit-NAME``, or one file.

    Args:
        kind: of its component.
        name: of its component.
        loaded: what there is already, none of which may have the name.

    Raises:
        UsageError: there is no such kind, the name cannot be used, or there is such a file or folder already.
    """
    if kind not in HOOKS:
        raise UsageError(f"There is no kind {kind!r}{nearest(kind, HOOKS)} of plugins. Known: {', '.join(HOOKS)}.")
    if not is_name(name) or not name[0].isalpha():
        raise UsageError(f"{name!r} cannot name a component; use small letters, digits and hyphens, a letter first.")
    if found := loaded.of_kind(kind).get(name):
        raise UsageError(f"There is a {kind} {name!r} already, of {found[0].source.name}. Choose another name.")
    stem = name.replace("-", "_")
    if single_file:
        option = f"--plugins-dir {stem}.py"
        written = {folder / f"{stem}.py": _rendered(f"{kind}.py", kind, name, stem, option)}
    else:
        root, module = folder / f"bserkit-{name}", f"bserkit_{stem}"
        files = {
            root / "pyproject.toml": "pyproject.toml",
            root / "README.md": "README.md",
            root / "src" / module / "__init__.py": f"{kind}.py",
            root / "tests" / f"test_{stem}.py": "test.py",
        }
        written = {path: _rendered(template, kind, name, module, "") for path, template in files.items()}
        written[root / "src" / module / "py.typed"] = ""
    _write(written, folder / f"{stem}.py" if single_file else root)
    return list(written)


def _write(written: dict[Path, str], whole: Path) -> None:
    if whole.exists():
        raise UsageError(f"{whole} is there already; nothing was written. Choose another name or folder.")
    try:
        for path, text in written.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{whole} cannot be written: {error.strerror}. Choose another folder.") from error


def _rendered(template: str, kind: str, name: str, module: str, option: str) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    templates = Environment(
        loader=PackageLoader("bserkit.plugins"),
        # Code, not a page: there is nothing to escape.
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made = templates.get_template(f"{template}.jinja").render(
        kind=kind,
        name=name,
        module=module,
        option=option,
        cls="".join(part.capitalize() for part in name.split("-")),
        hook=HOOKS[kind],
        contract=CONTRACTS[HOOKS[kind]].__name__,
        version=version("bserkit"),
    )
    return re.sub(r" {2,}--", " --", made)
