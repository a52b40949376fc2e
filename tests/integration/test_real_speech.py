"""Real speech end to end, where the shared corpora are: two microphones, real traps, a real pretrained network."""

from __future__ import annotations

import re
import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile

#: Files of each emotion that the subset of EMOVO has of each of its speakers.
TAKES = 2


@pytest.fixture(scope="module")
def emovo_subset(shared, tmp_path_factory):
    """Three speakers, seven emotions, the first stereo files of each, under their own folders and names."""
    root = tmp_path_factory.mktemp("emovo")
    for speaker in ("f2", "m1", "m3"):
        (root / speaker).mkdir()
        for emotion in ("dis", "gio", "neu", "pau", "rab", "sor", "tri"):
            for path in sorted((shared / "corpora" / "emovo" / speaker).glob(f"{emotion}-*.flac"))[:TAKES]:
                shutil.copyfile(path, root / speaker / path.name)
    return root


@pytest.fixture(scope="module")
def urdu_subset(shared, tmp_path_factory):
    """Three files of every emotion from each of its first speakers, under their own folders and names."""
    root = tmp_path_factory.mktemp("urdu")
    for folder in ("Angry", "Happy", "Neutral", "Sad"):
        (root / folder).mkdir()
        taken = {}
        for path in sorted((shared / "corpora" / "urdu" / folder).glob("*.flac")):
            speaker = path.name.partition("_")[0]
            taken.setdefault(speaker, []).append(path)
        for speaker in sorted(taken)[:4]:
            for path in taken[speaker][:3]:
                shutil.copyfile(path, root / folder / path.name)
    return root


def named_files(text):
    return {line.strip() for line in text.splitlines() if line.startswith("  ") and line.endswith(".flac")}


def test_emovo_is_refused_for_exactly_its_mono_files(cli, shared, fast, tmp_path):
    root = shared / "corpora" / "emovo"
    equal = set()
    for path in sorted((root / "f1").glob("neu-*.flac")):
        left, right = soundfile.read(path)[0].T
        if np.array_equal(left, right):
            equal.add(f"f1/{path.name}")
    assert len(equal) == 13
    ended = cli("run", root, *fast, cache=tmp_path / "cache")
    assert ended.returncode == 2
    assert "14 of 588 recordings are not stereo (1 mono, 13 with left equal to right)" in ended.stderr
    assert named_files(ended.stderr) == equal | {"f1/rab-f1-b1.flac"}
    assert not (tmp_path / "mlruns").exists()


@pytest.mark.slow
def test_stereo_speech_runs_with_a_pretrained_network(cli, shared, emovo_subset, lab, read_run, tmp_path):
    weights = shared / "weights" / "squeezenet1_1.pth"
    backbone = f"torchvision:arch=squeezenet1_1,weights={weights}"
    ended = cli("run", emovo_subset, "--backbone", backbone, cwd=lab, cache=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "emovo (found from the file names): 42 utterances" in ended.stderr
    assert "48 kHz, 42 stereo; 3 speakers, 7 emotions" in ended.stderr
    run = read_run(lab, ended)
    params = dict(run.params)
    assert (params["backbone.arch"], params["backbone.weights"]) == ("squeezenet1_1", str(weights))
    # The digest that the weights' own README gives.
    assert params["backbone.weights_digest"] == "ce39b5347dc5af50a85c2fb06cf9ecbd62a21c74058c2ca6fcee82974b9db35c"
    table = pd.read_csv(run.artifacts / "predictions.csv")
    fused = table[table["part"] == "fusion"]
    assert fused["utterance"].nunique() == len(fused) == run.metrics["utterances"] == 42
    assert fused["label"].value_counts().to_dict() == dict.fromkeys(
        ("anger", "disgust", "fear", "joy", "neutral", "sadness", "surprise"), 3 * TAKES
    )
    assert set(fused["fold"]) == {"f2", "m1", "m3"}
    assert run.metrics["accuracy"] == pytest.approx((fused["label"] == fused["predicted"]).mean())
    scores = [table.loc[table["part"] == part, "score_anger"].to_numpy() for part in ("left", "right", "mid", "side")]
    assert len({one.tobytes() for one in scores}) == 4
    assert (run.metrics["skipped"], run.status) == (0, "FINISHED")


def test_urdu_is_recognised_and_refused_as_mono(cli, shared, urdu_subset, fast):
    count = len(list(urdu_subset.rglob("*.flac")))
    ended = cli("run", urdu_subset, *fast)
    assert ended.returncode == 2
    assert f"{count} of {count} recordings are not stereo ({count} mono)" in ended.stderr
    assert "--channels mono" in ended.stderr


def test_mono_speech_runs_on_mono_in_speaker_groups(cli, urdu_subset, fast, lab, read_run):
    files = {path.relative_to(urdu_subset).as_posix() for path in urdu_subset.rglob("*.flac")}
    ended = cli("run", urdu_subset, *fast, "--channels", "mono", "--protocol", "losgo:groups=3", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    assert re.search(
        rf"urdu \(found from the file names\): {len(files)} utterances, .* 44.1 kHz, 0 stereo", ended.stderr
    )
    assert "Protocol losgo:groups=3: 3 folds" in ended.stderr
    run = read_run(lab, ended)
    params = dict(run.params)
    assert (params["corpus"], params["channels"], params["protocol.groups"]) == ("urdu", "mono", "3")
    table = pd.read_csv(run.artifacts / "predictions.csv")
    assert set(table["part"]) == {"mono", "fusion"}
    assert set(table["utterance"]) == files
    assert set(table["label"]) == {"angry", "happy", "neutral", "sad"}
    assert (table["utterance"].str.extract(r"/(S[MF]\d+)_")[0] == table["speaker"]).all()
    assert table.groupby("speaker")["fold"].nunique().eq(1).all()
    assert set(table["fold"]) == {"group1", "group2", "group3"}
