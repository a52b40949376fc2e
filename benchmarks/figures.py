"""What every benchmark says and how: figures with a unit and a goal, on the screen and as JSON."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        better: ``higher`` or ``lower``.
        goal: what should be reached; None where the number only informs.
    """

    value: float
    unit: str
    better: str
    goal: float | None = None

    def met(self) -> bool | None:
        """Say whether the goal is reached, if there is one."""
        if self.goal is None:
            return None
        return self.value >= self.goal if self.better == "higher" else self.value <= self.goal

    def change(self, before: float) -> float:
        """Return the relative change against an earlier value, positive where it became better."""
        relative = (self.value - before) / abs(before) if before else 0.0
        return relative if self.better == "higher" else -relative


def parser(text: str | None) -> argparse.ArgumentParser:
    """Return a parser with a benchmark's own words and ``--json``."""
    made = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as JSON too")
    return made


def machine() -> dict[str, str | int]:
    """Name the processor, its cores and the torch version."""
    processor = "unknown"
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            processor = line.partition(":")[2].strip()
            break
    return {"processor": processor, "cores": len(os.sched_getaffinity(0)), "torch": version("torch")}


def report(benchmark: str, figures: dict[str, Figure], path: Path | None, notes: Sequence[str] = ()) -> None:
    """Print the figures and what must be known of them, and write them where that is asked for."""
    for name, figure in figures.items():
        goal = "" if figure.goal is None else f"goal {figure.goal:g}, {'met' if figure.met() else 'NOT MET'}"
        print(f"{name:<58}{figure.value:>12.4g} {figure.unit:<12}{goal}")
    for note in notes:
        print(f"Note: {note}")
    if path:
        known = {name: asdict(figure) for name, figure in figures.items()}
        content = {"benchmark": benchmark, "machine": machine(), "figures": known, "notes": list(notes)}
        path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
