"""Write the pages that follow from the code: docs/plugins.md and docs/architecture.md. A test compares them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from pathlib import Path

import grimp

from bserkit.plugins import hooks
from bserkit.plugins.registry import CONTRACTS

HERE = Path(__file__).parent
PACKAGE = HERE.parent / "bserkit"
#: The folders from the top; each imports only those below it, as pyproject.toml has the checks hold.
FOLDERS = ("cli", "experiments", "plugins", "reporting", "evaluation", "learning", "features", "corpora", "tracking")
WRITTEN = "<!-- Written by docs/make.py; do not edit. -->\n"


def example(hook: str) -> str:
    """Return the complete plugin file in a hook's docstring."""
    text = inspect.getdoc(getattr(hooks, hook)) or ""
    code = textwrap.dedent(text.split(".. code-block:: python", 1)[1]).strip() + "\n"
    return code.replace("'''", '"""')


def plugins() -> str:
    """Return the page of hooks."""
    parts = [
        "# Plugins\n",
        WRITTEN,
        inspect.getdoc(hooks).replace("``", "`") + "\n",
        "What is found where: `bserkit plugins`. What can be used: `bserkit components`.\n",
    ]
    for hook, contract in CONTRACTS.items():
        summary, _, more = (
            (inspect.getdoc(getattr(hooks, hook)) or "").partition("Example:")[0].strip().partition("\n\n")
        )
        more = " " + " ".join(more.replace("``", "`").split()) if more else ""
        parts += [f"## `{hook}`\n", f"{summary}{more} The contract is `bserkit.{contract.__name__}`:\n"]
        for name in sorted(contract.__abstractmethods__):
            method = getattr(contract, name)
            described = (inspect.getdoc(method) or "").splitlines()[0].replace("``", "`")
            parts.append(f"- `{name}{inspect.signature(method)}`: {described}")
        parts += ["", f"```python\n{example(hook)}```\n"]
    return "\n".join(parts)


def first_line(path: Path) -> str:
    """Return the first line of a module's docstring."""
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return found.partition("\n")[0].replace("``", "`")


def described(folder: str) -> str:
    """Return what a folder of the package is for."""
    return first_line(PACKAGE / folder / "__init__.py")


def imports() -> list[tuple[str, str]]:
    """Return which folder imports which, from the top; pairs that follow from others are left out."""
    graph = grimp.build_graph("bserkit", exclude_type_checking_imports=True, cache_dir=None)
    known: dict[str, set[str]] = {}
    for folder in FOLDERS:
        within = {f"bserkit.{folder}"} | graph.find_descendants(f"bserkit.{folder}")
        imported = {one for module in within for one in graph.find_modules_directly_imported_by(module) if "." in one}
        known[folder] = {one.split(".")[1] for one in imported} & set(FOLDERS) - {folder}
    reached: dict[str, set[str]] = {}
    for folder in reversed(FOLDERS):
        reached[folder] = known[folder].union(*(reached[one] for one in known[folder]))
    return [
        (folder, one)
        for folder in FOLDERS
        for one in FOLDERS
        if one in known[folder] and not any(one in reached[other] for other in known[folder])
    ]


def architecture() -> str:
    """Return the page of folders and modules."""
    parts = [
        "# Architecture\n",
        WRITTEN,
        "Each folder imports only those below it; import-linter holds that in `make check`. All of them use the\n"
        "modules listed last, which import no folder. An arrow is an import that there is; those that follow from\n"
        "others are left out.\n",
        "```mermaid\nflowchart TD",
        *(f'    {folder}["{folder}/<br/>{described(folder).partition(": ")[2]}"]' for folder in FOLDERS),
        *(f"    {importer} --> {imported}" for importer, imported in imports()),
        "```\n",
    ]
    for folder in (*FOLDERS, ""):
        here = PACKAGE / folder if folder else PACKAGE
        parts.append(f"## `bserkit/{folder}/`\n" if folder else "## `bserkit/`\n")
        if folder:
            parts.append(f"{described(folder)}\n")
        modules = sorted(here.rglob("*.py") if folder else [*here.glob("*.py"), *here.glob("identity/*.py")])
        parts += [
            f"- `{path.relative_to(here)}`: {first_line(path)}"
            for path in modules
            if path.name != "__init__.py" or path == PACKAGE / "__init__.py"
        ]
        parts.append("")
    return "\n".join(parts)


PAGES = {"plugins.md": plugins, "architecture.md": architecture}

if __name__ == "__main__":
    for name, make in PAGES.items():
        (HERE / name).write_text(make(), encoding="utf-8")
