"""``python -m bserkit`` is the command ``bserkit``."""

from bserkit.cli import main

main(prog_name="bserkit")
