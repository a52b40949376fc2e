"""What a sweep holds: every combination, its name, and what makes it the same as one that was done before."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bserkit.cli import main
from bserkit.cli.options import given_settings
from bserkit.corpora.audio import AudioFacts
from bserkit.corpora.checking import Checked
from bserkit.corpora.protocols import Fold
from bserkit.corpora.reading import Corpus, Utterance
from bserkit.errors import BserkitError, UsageError
from bserkit.experiments.grid import combinations
from bserkit.experiments.run import Prepared, parameters, tags
from bserkit.experiments.settings import resolve
from bserkit.experiments.sweep import Failed, _identity
from bserkit.identity.meaning import Code
from bserkit.plugins.registry import load_plugins

PLUGINS = load_plugins(outside=False)
FAST = {"backbone": "alexnet:weights=random"}


def planned(grid=None, references=(), **values):
    return combinations(FAST | values, grid or {}, references, PLUGINS)


def refusal(*arguments, **values):
    with pytest.raises(UsageError) as refused:
        planned(*arguments, **values)
    return str(refused.value)


@pytest.fixture
def reference(tmp_path):
    def write(text, name="mono.toml"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def test_sweeps_default_to_the_papers_combinations():
    made = planned()
    assert [one.name for one in made] == [
        f"{pooler} {fusion}"
        for pooler in ("block-max", "block-avg", "global-max", "global-avg")
        for fusion in ("two-stage", "feature")
    ]
    assert {one.settings.fusion.spec for one in made} == {"two-stage:tune=oracle", "feature"}
    assert not any(one.reference for one in made)


def test_axes_combine_in_order_and_values_hold_commas():
    grid = {
        "channels": ("lr,ms", "mono"),
        "backbone": ("torchvision:arch=squeezenet1_1,weights=random", "alexnet:weights=random"),
        "pooler": ("global-max",),
        "fusion": ("mean",),
    }
    made = planned(grid)
    assert [one.name for one in made] == [
        "lr,ms torchvision", "lr,ms alexnet", "mono torchvision", "mono alexnet",
    ]  # fmt: skip
    backbone = made[0].settings.extraction.backbone
    assert (backbone.arch, backbone.weights) == ("squeezenet1_1", "random")
    assert [transform.name for transform in made[0].settings.extraction.transforms] == ["lr", "ms"]


def test_equal_component_names_differ_by_parameters():
    made = planned({"pooler": ("block-max", "block-max:blocks=3"), "fusion": ("feature", "mean")})
    assert [one.name for one in made] == [
        "block-max feature", "block-max mean", "block-max:blocks=3 feature", "block-max:blocks=3 mean",
    ]  # fmt: skip
    assert made[2].stages["fusion"] == "feature"


def test_a_setting_of_the_file_is_an_axis_of_one():
    made = planned({"fusion": ("mean",)}, pooler={"name": "global-avg"}, seed=7)
    (one,) = made
    assert (one.name, one.settings.pooler.name, one.settings.seed) == ("global-avg mean", "global-avg", 7)


def test_fine_tuning_can_be_swept_against_none():
    made = planned({"finetune": ("none", "sgd:epochs=2"), "pooler": ("block-max",), "fusion": ("mean",)})
    assert [one.name for one in made] == ["frozen", "sgd"]
    assert made[0].settings.finetune is None
    assert made[1].settings.finetune.epochs == 2


def test_the_name_of_the_sweep_is_no_name_of_its_runs():
    assert {one.settings.run_name for one in planned(**{"run-name": "all of it"})} == {None}


def test_a_reference_overrides_the_first_combination(reference):
    text = 'channels = "mono"\n[classifier]\nname = "linear-svm"\nc = "search"\n'
    *grid, one = planned({"pooler": ("global-max", "block-max")}, [reference(text)], seed=3, experiment="mine")
    assert len(grid) == 4
    assert (one.name, one.reference) == ("mono", True)
    assert one.settings == replace(
        grid[0].settings,
        channels=one.settings.channels,
        classifier=one.settings.classifier,
    )
    assert [transform.name for transform in one.settings.extraction.transforms] == ["mono"]
    assert one.settings.classifier.c == "search"


def test_a_logged_configuration_can_be_a_reference(reference):
    logged = resolve(FAST | {"pooler": "global-avg", "experiment": "elsewhere", "run-name": "theirs"}, PLUGINS)
    *_, one = planned({"pooler": ("block-max",)}, [reference(logged.to_toml())])
    assert (one.name, one.settings.pooler.name) == ("theirs", "global-avg")
    assert (one.settings.experiment, one.settings.run_name) == ("bserkit", None)


def test_a_reference_on_other_folds_is_refused(reference):
    path = reference('protocol = "losgo:groups=2"\n')
    assert f"The reference {path} sets another protocol than the sweep" in refusal({}, [path])


def test_a_reference_that_is_in_the_grid_is_refused(reference):
    said = refusal({"pooler": ("block-max", "global-max")}, [reference('pooler = "block-max:blocks=2"\n')])
    assert "The reference mono is the same as block-max two-stage: bserkit run" in said


def test_references_of_one_name_are_refused(reference, tmp_path):
    (tmp_path / "other").mkdir()
    paths = [reference('channels = "mono"\n'), reference('channels = "ms"\n', "other/mono.toml")]
    assert "Two are named 'mono'. Name one in its file, such as run-name = 'mono 2'." in refusal({}, paths)


def test_the_same_component_twice_is_refused():
    assert "A combination is the same as" in refusal({"pooler": ("block-max", "block-max:blocks=2")})


def test_several_components_in_one_option_are_refused():
    assert "once for each: --pooler block-max --pooler global-max" in refusal({"pooler": ("block-max,global-max",)})


def test_unknown_component_error_suggests_the_nearest():
    assert "did you mean 'block-max'?" in refusal({"pooler": ("blok-max",)})


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"channels": "ms", "pooler": "block-max:blocks=3,pyramid=true", "fusion": "two-stage:tune=oracle", "seed": 4},
        {"backbone": 'alexnet:weights=random,layer=fc6', "finetune": "sgd:epochs=2", "protocol": "losgo:groups=2"},
        {"mono": "skip", "precision": "bf16", "experiment": "two words", "run-name": "it's"},
        {"classifier": "linear-svm:c=search", "frontend": "logmel:shift_frames=20", "allow-speaker-overlap": True},
        {"backbone": "opensmile", "pooler": "block-max"},
    ],
)  # fmt: skip
def test_a_runs_command_gives_the_same_settings(values, tmp_path):
    (tmp_path / "m.csv").write_text("path,label,speaker\n")
    settings = resolve(FAST | {"data": tmp_path / "m.csv"} | values, PLUGINS)
    program, command, *words = shlex.split(settings.command())
    assert (program, command) == ("bserkit", "run")
    given = main.commands[command].make_context(command, words).params
    assert given_settings(given)[0] == settings


def checked(label="mad", name="a.wav", digest="1"):
    utterances = tuple(Utterance(Path("/c") / file, label, file[0]) for file in (name, "b.wav"))
    corpus = Corpus(Path("/c"), PLUGINS.make(type_of("corpus", "csv"), "csv"), utterances, ())
    return Checked(corpus, (digest, "2"), (AudioFacts(16000, 2, 1.0, True, 0.0, ""),) * 2, ())


def type_of(kind, name):
    return PLUGINS.find(kind, name).component


def folds(train=0, test=1):
    return [Fold("one", np.array([train]), np.array([test]))]


def digest(*, settings=None, corpus=None, split=None):
    prepared = Prepared(corpus or checked(), split or folds(), audit=None, cautions={})
    settings = settings or resolve(FAST, PLUGINS)
    return _identity(settings, prepared, parameters(settings), tags(settings, PLUGINS, prepared))


def test_digests_cover_all_that_changes_the_numbers(monkeypatch):
    others = {
        "pooler": digest(settings=resolve(FAST | {"pooler": "block-max:blocks=3"}, PLUGINS)),
        "seed": digest(settings=resolve(FAST | {"seed": 1}, PLUGINS)),
        "sound": digest(corpus=checked(digest="3")),
        "label": digest(corpus=checked(label="sad")),
        "folds": digest(split=folds(1, 0)),
    }
    monkeypatch.setattr("bserkit.component.code_of", lambda component: Code("changed", {}))
    others["code"] = digest()
    monkeypatch.undo()
    monkeypatch.setattr("bserkit.experiments.run.version", lambda library: "changed")
    others["versions"] = digest()
    monkeypatch.undo()
    assert digest() == digest()
    assert digest() not in others.values()
    assert len(set(others.values())) == len(others)


def test_failure_reasons_are_one_line_with_error_type():
    (one, *_) = planned()
    assert Failed(one, BserkitError("no room\nat all")).reason == "no room"
    assert Failed(one, ValueError("no luck")).reason == "ValueError: no luck"
