"""Decisions are the same on every machine, scores within a tolerance: threads and instruction sets are held down.

``BSERKIT_GOLDEN=write pytest tests/golden`` writes the files anew, as the first environment decides.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bserkit.corpora.demo import demo_corpus
from bserkit.text import csv_text

GOLDEN = Path(__file__).parent
#: How far a score, of the order of 1, may lie from that of another machine.
TOLERANCE = 1e-4
#: How many threads there are and what a processor may use; one that has less takes what it has.
ENVIRONMENTS = {
    "AVX2": {
        "OMP_NUM_THREADS": "1",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "OPENBLAS_CORETYPE": "Haswell",
    },
    "AVX-512": {
        "OMP_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "AVX512_CORE",
        "MKL_ENABLE_INSTRUCTIONS": "AVX512",
    },
    # Far from both on every processor: vectors of four, and no product and sum in one step.
    "SSE4": {
        "OMP_NUM_THREADS": "2",
        "ONEDNN_MAX_CPU_ISA": "SSE41",
        "ATEN_CPU_CAPABILITY": "default",
        "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
        "OPENBLAS_CORETYPE": "Nehalem",
    },
}


def agree(name, given, environment, cache):
    """Evaluate a run in an environment, and compare decisions and the fusion's scores with the golden file."""
    ended = subprocess.run(
        [sys.executable, str(GOLDEN / "decide.py"), str(cache), json.dumps(given | {"device": "cpu"})],
        env=os.environ | ENVIRONMENTS[environment],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    items, scores = {}, {}
    for row in csv.DictReader(io.StringIO(ended.stdout)):
        items.setdefault(row["utterance"], {"utterance": row["utterance"]})[row["part"]] = row["predicted"]
        if row["part"] == "fusion":
            scores[row["utterance"]] = {key: row[key] for key in row if key.startswith("score_")}
    path = GOLDEN / f"decisions-{name}.csv"
    if os.environ.get("BSERKIT_GOLDEN") == "write" and environment == next(iter(ENVIRONMENTS)):
        path.write_text(csv_text([items[item] | scores[item] for item in items]), encoding="utf-8")
    expected = {row["utterance"]: row for row in csv.DictReader(io.StringIO(path.read_text(encoding="utf-8")))}
    assert items == {item: {key: row[key] for key in items[item]} for item, row in expected.items()}
    for item, found in scores.items():
        assert {key: float(score) for key, score in found.items()} == pytest.approx(
            {key: float(expected[item][key]) for key in found}, abs=TOLERANCE, rel=0
        ), item


@pytest.mark.slow
def test_the_demonstration_decides_alike_everywhere(tmp_path):
    # What the processor's own instructions and all its threads decide, the tests of the command line hold against the
    # same file.
    given = {"data": str(demo_corpus(tmp_path)), "corpus": "csv", "backbone": "alexnet:weights=random"}
    agree("demonstration", given, "AVX2", tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_real_speech_is_decided_alike_everywhere(environment, shared, tmp_path):
    agree("emovo", few_of_emovo(shared, tmp_path), environment, tmp_path / "cache")


@pytest.mark.slow
@pytest.mark.parametrize("environment", ["AVX2", "SSE4"])
def test_what_learns_in_folds_decides_alike(environment, shared, tmp_path):
    learning = {"pooler": "vlad:centres=4", "normaliser": "pca:share=0.9", "fusion": "mean"}
    agree("learned", few_of_emovo(shared, tmp_path) | learning, environment, tmp_path / "cache")


def few_of_emovo(shared, tmp_path):
    """Return the settings of a sentence in every emotion by four speakers of EMOVO, through SqueezeNet."""
    for path in (shared / "corpora" / "emovo").glob("[fm][12]/*-b1.flac"):
        (tmp_path / "emovo" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, tmp_path / "emovo" / path.parent.name / path.name)
    squeezenet = f"torchvision:arch=squeezenet1_1,weights={shared / 'weights' / 'squeezenet1_1.pth'}"
    return {"data": str(tmp_path / "emovo"), "mono": "duplicate", "backbone": squeezenet}
