"""``bserkit run --finetune`` from the command line to what MLflow keeps of it, killed half-way and used again."""

from __future__ import annotations

import hashlib
import random
import signal
import time
import tomllib

import pytest

EPOCHS = 4


@pytest.fixture(scope="module")
def command(corpus, small):
    options = (*small, "--channels", "lr", "--protocol", "losgo:groups=2")
    options += ("--precision", "fp32", "--finetune", f"sgd:epochs={EPOCHS},lr=0.05")
    return ("run", corpus / "manifest.csv", *options)


@pytest.fixture(scope="module")
def tuned(run_cli, runs_of, command, tmp_path_factory):
    """A whole run: what it said, its record and those of its networks, and its store."""
    folder = tmp_path_factory.mktemp("tuned")
    ended = run_cli(*command, cwd=folder, cache=folder / "cache")
    assert ended.returncode == 0, ended.stderr
    parent, *children = runs_of(folder, "bserkit")
    return ended, parent, children, folder


def weights_in(cache):
    """Return the bytes of every fine-tuned network by its folder's name, which is of what it depends on."""
    return {path.parent.name: path.read_bytes() for path in cache.glob("finetune-2/*/weights.safetensors")}


def test_each_channel_and_fold_is_a_nested_run(tuned):
    _, parent, children, _ = tuned
    assert parent.status == "FINISHED"
    assert "mlflow.parentRunId" not in parent.tags
    assert [dict(child.params) for child in children] == [
        {"channel": channel, "fold": fold} for fold in ("group1", "group2") for channel in ("left", "right")
    ]
    for child in children:
        assert child.status == "FINISHED"
        assert child.tags["mlflow.parentRunId"] == parent.id
        for name in ("train/loss", "train/accuracy", "learning_rate", "segments_per_second", "seconds"):
            assert [step for step, _ in child.steps[name]] == [1, 2, 3, 4], name


def test_each_network_is_kept_with_recipe_and_digest(tuned):
    _, _, children, folder = tuned
    kept = weights_in(folder / "cache")
    assert len(kept) == len({child.tags["weights.digest"] for child in children}) == 4
    for child in children:
        content = (child.artifacts / "weights.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == child.tags["weights.digest"]
        assert content in kept.values()
        assert (child.artifacts / "recipe.json").exists()


def test_logged_settings_give_the_run_again(tuned):
    _, parent, _, _ = tuned
    params = dict(parent.params)
    assert (params["finetune"], params["finetune.epochs"], params["finetune.lr"]) == ("sgd", "4", "0.05")
    document = tomllib.loads((parent.artifacts / "config.toml").read_text())
    assert document["finetune"]["name"] == "sgd"
    assert document["finetune"]["epochs"] == EPOCHS


def test_the_report_shows_how_each_network_learned(tuned, run_cli):
    _, parent, children, folder = tuned
    ended = run_cli("report", parent.id, "--out", "page.html", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    page = (folder / "page.html").read_text()
    for child in children:
        assert child.tags["weights.digest"][:16] in page
        losses = [value for _, value in child.steps["train/loss"]]
        assert f"<td>{losses[0]:.3f} to {losses[-1]:.3f}</td>" in page
    assert page.count("training loss, mean of 2 networks: from") == len({"left", "right"})


def test_progress_counts_epochs_of_all_networks(tuned):
    ended, _, _, _ = tuned
    assert f"Fine-tuning: {2 * 2 * EPOCHS} epochs" in ended.stderr
    assert "Network 4 of 4, right without group2: 4 epochs" in ended.stderr
    assert f"fine-tuned by sgd:epochs={EPOCHS},lr=0.05" in ended.stderr


@pytest.fixture(scope="module")
def another(tuned, run_cli, runs_of, command):
    """A run with another pooler and fusion: when the store's networks and features were written before and after it."""
    _, _, _, folder = tuned
    cache = folder / "cache"

    def written():
        return {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}

    before = written()
    options = ("--pooler", "global-avg", "--fusion", "feature", "--experiment", "again")
    ended = run_cli(*command, *options, cwd=folder, cache=cache)
    assert ended.returncode == 0, ended.stderr
    return before, written(), *runs_of(folder, "again")


def test_other_poolers_and_fusions_reuse_the_networks(another):
    before, after, _, *children = another
    assert after == before
    assert {child.tags["reused"] for child in children} == {"true"}
    assert all(len(child.steps["train/loss"]) == EPOCHS for child in children)
    assert not any((child.artifacts / "weights.safetensors").exists() for child in children)


def checkpoints_in(cache):
    return list(cache.glob("finetune-2/*/checkpoint.safetensors"))


def features_in(cache):
    return list(cache.glob("features-2/*/*/*.safetensors"))


#: Moments at which a run is killed, and how long its network pauses before each step so that there is time for it.
KILLS = {
    "while an epoch is learned": (0.3, checkpoints_in),
    "between two networks": (0.3, lambda cache: weights_in(cache) and not checkpoints_in(cache)),
    "while features are extracted": (0.1, lambda cache: len(weights_in(cache)) == 4 and features_in(cache)),
}


def test_a_run_killed_three_times_ends_as_a_whole_one(
    tuned, start_cli, finish_cli, run_cli, runs_of, command, tmp_path
):
    _, parent, _, folder = tuned
    cache, chance = tmp_path / "cache", random.Random(3)
    for moment, (pause, reached) in KILLS.items():
        process = start_cli(*command, cwd=tmp_path, cache=cache, env={"SMALL_PAUSE": str(pause)})
        deadline = time.monotonic() + 120
        while not reached(cache):
            assert process.poll() is None, moment
            assert time.monotonic() < deadline, moment
            time.sleep(0.01)
        time.sleep(chance.uniform(0, pause))
        process.send_signal(signal.SIGKILL)
        assert finish_cli(process).returncode == -signal.SIGKILL, moment
    assert len(features_in(cache)) < len(features_in(folder / "cache"))

    ended = run_cli(*command, cwd=tmp_path, cache=cache)
    assert ended.returncode == 0, ended.stderr
    assert weights_in(cache) == weights_in(folder / "cache")
    assert not checkpoints_in(cache)
    runs = runs_of(tmp_path, "bserkit")
    killed, whole = ([run for run in runs if run.status == status] for status in ("KILLED", "FINISHED"))
    (result,) = (run for run in whole if "mlflow.parentRunId" not in run.tags)
    for name in ("predictions.csv", "results.csv"):
        assert (result.artifacts / name).read_bytes() == (parent.artifacts / name).read_bytes(), name
    assert len([run for run in killed if "mlflow.parentRunId" not in run.tags]) == len(KILLS)
    # An epoch that was learned again would have taken another time, to the last digit.
    seconds = {
        frozenset(run.params): dict(run.steps["seconds"])
        for run in whole
        if run.tags.get("mlflow.parentRunId") == result.id
    }
    done = [(run, *epoch) for run in runs if "mlflow.parentRunId" in run.tags for epoch in run.steps.get("seconds", [])]
    assert len(done) > 4 * EPOCHS
    for run, epoch, took in done:
        assert seconds[frozenset(run.params)][epoch] == took


def test_untrainable_backbones_are_refused_early(cli, corpus, fast, tmp_path):
    ended = cli("run", corpus / "manifest.csv", *fast, "--finetune", "sgd:epochs=1", cache=tmp_path / "cache")
    assert ended.returncode == 2
    assert "nothing that can be fine-tuned" in ended.stderr
    assert not (tmp_path / "mlruns").exists()


def test_extraction_refuses_fine_tuning(cli, corpus, fast, tmp_path):
    (tmp_path / "run.toml").write_text('finetune = "sgd:epochs=1"\n')
    ended = cli("extract", corpus / "manifest.csv", "out.parquet", *fast, "--config", "run.toml")
    assert ended.returncode == 2
    assert "weights=PATH" in ended.stderr


def reusing(command, reference):
    """Return the command with the networks of an earlier run in place of training."""
    position = command.index("--finetune")
    return (*command[: position + 1], f"from:run={reference}", *command[position + 2 :])


def test_networks_of_a_run_repeat_it_without_training(tuned, another, run_cli, read_run, runs_of, command):
    _, parent, children, folder = tuned
    ended = run_cli(*reusing(command, parent.id[:12]), "--run-name", "again", cwd=folder, cache=folder / "empty")
    assert ended.returncode == 0, ended.stderr
    assert "Fine-tuning" not in ended.stderr
    again = read_run(folder, ended)
    for name in ("predictions.csv", "results.csv"):
        assert (again.artifacts / name).read_bytes() == (parent.artifacts / name).read_bytes(), name
    assert dict(again.params)["finetune"] == "from"
    assert dict(again.params)["finetune.run"] == parent.id
    nested = [run for run in runs_of(folder, "bserkit") if run.tags.get("mlflow.parentRunId") == again.id]
    for one, origin in zip(nested, children, strict=True):
        assert one.tags["network.run"] == one.tags["weights.run"] == origin.id
        assert one.tags["weights.digest"] == origin.tags["weights.digest"]
        assert len(one.steps["train/loss"]) == EPOCHS
        assert not (one.artifacts / "weights.safetensors").exists()
    # A run that used networks again can be used again itself, by its name, for another pooler and fusion.
    other = (*reusing(command, "again"), "--pooler", "global-avg", "--fusion", "feature")
    ended = run_cli(*other, cwd=folder, cache=folder / "empty")
    assert ended.returncode == 0, ended.stderr
    found, expected = (run.artifacts / "predictions.csv" for run in (read_run(folder, ended), another[2]))
    assert found.read_bytes() == expected.read_bytes()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--channels", "ms"), ("no network for the channel mid", "left, right")),
        (
            ("--backbone", "alexnet:weights=random"),
            ("began with backbone small, not alexnet", "--backbone as that run"),
        ),
        (("--protocol", "loso"), ("did not learn from", "wav/", "the corpus, --mono and --protocol of that run")),
    ],
)
def test_misfit_networks_are_refused_before_a_run(tuned, run_cli, runs_of, command, options, said):
    _, parent, _, folder = tuned
    before = len(runs_of(folder, "bserkit"))
    ended = run_cli(*reusing(command, parent.id), *options, cwd=folder, cache=folder / "cache")
    assert ended.returncode == 2, ended.stderr
    for words in said:
        assert words in " ".join(ended.stderr.split())
    assert len(runs_of(folder, "bserkit")) == before


def test_networks_trained_on_test_speakers_are_refused(tuned, run_cli, command, manifest, rows):
    _, parent, _, folder = tuned
    # Under these names the same four speakers are parted otherwise.
    names = {"ann": "speaker1", "bob": "speaker3", "cat": "speaker2", "dan": "speaker4"}
    regrouped = manifest("regrouped.csv", [(path, label, names[speaker]) for path, label, speaker in rows])
    ended = run_cli("run", regrouped, *reusing(command, parent.id)[2:], cwd=folder, cache=folder / "cache")
    assert ended.returncode == 2
    said = " ".join(ended.stderr.split())
    assert "learned from 9 of the utterances that this fold tests, of speaker" in said
    assert "wav/" in said
    assert "Its results would be of speech that it knows" in said


def test_missing_or_lost_networks_are_refused(tuned, run_cli, runs_of, command, fast):
    _, parent, children, folder = tuned
    lost = (children[1].artifacts / "weights.safetensors").rename(folder / "moved.safetensors")
    try:
        ended = run_cli(*reusing(command, parent.id), cwd=folder, cache=folder / "nowhere")
    finally:
        lost.rename(children[1].artifacts / "weights.safetensors")
    assert ended.returncode == 2
    assert "right without group1" in ended.stderr
    assert "is lost" in ended.stderr
    plain = (*command[: command.index("--finetune")], "--run-name", "plain")
    assert run_cli(*plain, cwd=folder, cache=folder / "cache").returncode == 0
    ended = run_cli(*reusing(command, "plain"), cwd=folder, cache=folder / "cache")
    assert ended.returncode == 2
    assert "fine-tuned no networks" in ended.stderr
