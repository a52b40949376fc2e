"""The demonstration corpus as a corpus of its own, so that no table takes it for somebody's manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bserkit import CorpusTable, UsageError
from bserkit.plugins.builtin.corpora.manifest import Manifest

if TYPE_CHECKING:
    from pathlib import Path


class Demo(Manifest):
    """The small synthetic corpus that bserkit makes itself and that a run without DATA learns from."""

    name = "demo"

    def recognises(self, root: Path) -> bool:
        """Leave what is named to other readers: nobody names this corpus."""
        return False

    def read(self, root: Path) -> CorpusTable:
        """Read the manifest that was written with the corpus.

        Raises:
            UsageError: ``root`` is another one.
        """
        if root.name != "manifest.csv" or not root.parent.name.startswith("demo-"):
            raise UsageError(
                f"--corpus demo is the demonstration corpus, which bserkit makes itself, but DATA is {root}. Leave "
                "DATA out, or leave --corpus demo out."
            )
        return super().read(root)
