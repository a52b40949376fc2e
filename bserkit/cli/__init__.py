"""Command line: a file a command; nothing below this folder knows click, rich or signals."""

from bserkit.cli.entry import main

__all__ = ["main"]
