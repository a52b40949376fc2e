"""The demonstration corpus as a corpus of its own, so that no table takes it for somebody's manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit.plugins.builtin.corpora.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path


class Demo(Manifest):
    """The small synthetic corpus that bserkit makes itself and that a run without DATA learns from."""

    name = "demo"

    def recognises(self, root: Path) -> bool:
        """Leave what is named to other readers: nobody names this corpus."""
        return False
