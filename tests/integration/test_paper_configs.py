"""The paper's experiments as configuration files: complete, and run on small corpora of the same layouts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from bserkit.experiments.settings import read_config, resolve
from bserkit.plugins.registry import load_plugins

EXAMPLES = Path(__file__).parents[2] / "examples"
RATE = 16000
#: One epoch, of a network other than the paper's: what is tested is the way through, from videos to the result.
QUICK = ("--finetune", "sgd:epochs=1")


@pytest.mark.parametrize("name", ["afew5", "baum1s"])
def test_a_paper_config_spells_every_parameter_out(name):
    path = EXAMPLES / f"{name}.toml"
    values = tomllib.loads(path.read_text())
    given = {"data": "nowhere", "device": "cpu", "precision": "fp32"}
    settings = resolve(read_config(path) | given, load_plugins(outside=False))
    for component in settings.components():
        if component.kind == "channels":
            assert component.name in values["channels"]
            assert not component.parameters
        else:
            assert values[component.kind] == {"name": component.name, **component.parameters}
    assert values.keys() >= {"seed", "mono", "experiment", "device", "precision"}


def voice(emotion, take):
    """``(time, channel)`` of 16-bit samples: a tone by emotion, left and right apart."""
    generator = np.random.default_rng((emotion, take))
    time = np.arange(int(0.8 * RATE)) / RATE
    tone = np.sin(2 * np.pi * (300 + 500 * emotion) * time)
    stereo = np.stack([tone, 0.5 * np.roll(tone, 5)], axis=1) + generator.normal(0, 0.1, (len(time), 2))
    return (8000 * stereo).astype(np.int16)


@pytest.fixture(scope="module")
def afew5(tmp_path_factory, film):
    """Three emotions, two clips a split; and one clip without sound that can be decoded."""
    root = tmp_path_factory.mktemp("afew5")
    for emotion, folder in enumerate(("Angry", "Happy", "Sad")):
        for take in range(4):
            split = ("Train", "Val")[take % 2]
            film(root / split / folder / f"00{emotion}{take}46280.avi", voice(emotion, take))
    broken = root / "Val" / "Sad" / "012134360.avi"
    broken.write_bytes(b"RIFF")
    return root


@pytest.fixture(scope="module")
def baum1s(tmp_path_factory, film):
    """Five subjects, each with an angry and a sad clip, and one clip of a subject who thinks."""
    root = tmp_path_factory.mktemp("baum1s")
    lines = ["Subject,Clip Name,Emotion,Emotion code"]
    for subject in range(1, 6):
        for number, (state, code) in enumerate((("Anger", 1), ("Sadness", 10), ("Thinking", 12))[: 2 + (subject == 1)]):
            clip = f"S{subject:03}_{number:03}"
            path = root / "BAUM1s_MP4 - All" / clip[:4].lower() / f"{clip}.mp4"
            film(path, voice(number, subject), "aac")
            lines.append(f"{subject},{clip},{state},{code}")
    (root / "Annotations_BAUM1s.csv").write_text("\n".join(lines) + "\n")
    return root


def test_the_papers_experiment_runs_on_afew5_videos(run_cli, read_run, afew5, small, lab):
    ended = run_cli("run", afew5, "--config", EXAMPLES / "afew5.toml", *small, *QUICK, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    params = dict(run.params)
    assert (params["corpus"], params["protocol"], params["protocol.test"]) == ("afew5", "predefined", "val")
    assert (params["channels"], params["pooler.blocks"], params["finetune.batch"]) == ("lr,ms", "2", "30")
    assert "6 utterances, 1 fold" in ended.stdout
    assert "Val/Sad/012134360.avi: it cannot be decoded" in ended.stdout + ended.stderr
    assert {"accuracy", "uar", "oracle_accuracy"} <= run.metrics.keys()
    for part in ("left", "right", "mid", "side", "lr", "ms", "fusion"):
        assert re.search(rf"│ {part} +│ +[01]\.\d+ │", ended.stdout)


def test_the_papers_experiment_runs_on_baum1s_videos(run_cli, read_run, baum1s, small, lab):
    ended = run_cli("run", baum1s, "--config", EXAMPLES / "baum1s.toml", *small, *QUICK, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    params = dict(run.params)
    assert (params["corpus"], params["protocol"], params["protocol.groups"]) == ("baum1s", "losgo", "5")
    assert run.tags["version.av"]
    assert "10 utterances, 5 folds" in ended.stdout
    assert "its state is thinking" in ended.stdout + ended.stderr
    assert {"accuracy", "uar", "oracle_accuracy"} <= run.metrics.keys()
