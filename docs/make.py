"""Write docs/plugins.md from the hooks' docstrings. A test compares the two."""

from __future__ import annotations

import inspect
import textwrap
from pathlib import Path

from bserkit.plugins import hooks
from bserkit.plugins.registry import CONTRACTS

PAGE = Path(__file__).with_name("plugins.md")


def example(hook: str) -> str:
    """Return the complete plugin file in a hook's docstring."""
    text = inspect.getdoc(getattr(hooks, hook)) or ""
    code = textwrap.dedent(text.split(".. code-block:: python", 1)[1]).strip() + "\n"
    return code.replace("'''", '"""')


def page() -> str:
    """Return the page."""
    parts = [
        "# Plugins\n",
        "<!-- Written by docs/make.py from bserkit/hooks.py; do not edit. -->\n",
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


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
