"""``bserkit run --finetune`` from the command line to what MLflow keeps of it, killed half-way and used again."""

from __future__ import annotations

import hashlib
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
    return {path.parent.name: path.read_bytes() for path in cache.glob("finetune-1/*/weights.safetensors")}


def test_each_channel_and_fold_is_a_nested_run_with_curves_by_epoch(tuned):
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


def test_each_network_is_kept_with_its_recipe_under_its_digest(tuned):
    _, _, children, folder = tuned
    kept = weights_in(folder / "cache")
    assert len(kept) == len({child.tags["weights.digest"] for child in children}) == 4
    for child in children:
        content = (child.artifacts / "weights.safetensors").read_bytes()
        assert hashlib.sha256(content).hexdigest() == child.tags["weights.digest"]
        assert content in kept.values()
        assert (child.artifacts / "recipe.json").exists()


def test_the_settings_are_logged_flat_and_as_a_configuration_that_gives_the_run_again(tuned):
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


def test_progress_counts_the_epochs_of_all_channels_and_folds(tuned):
    ended, _, _, _ = tuned
    assert f"Fine-tuning: {2 * 2 * EPOCHS} epochs" in ended.stderr
    assert "Network 4 of 4, right without group2: 4 epochs" in ended.stderr
    assert f"fine-tuned by sgd:epochs={EPOCHS},lr=0.05" in ended.stderr


def test_another_pooler_and_fusion_use_the_networks_and_their_features_again(tuned, run_cli, runs_of, command):
    _, _, _, folder = tuned
    cache = folder / "cache"
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")}
    another = (*command, "--pooler", "global-avg", "--fusion", "feature", "--experiment", "again")
    ended = run_cli(*another, cwd=folder, cache=cache)
    assert ended.returncode == 0, ended.stderr
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*.safetensors")} == before
    _, *children = runs_of(folder, "again")
    assert {child.tags["reused"] for child in children} == {"true"}
    assert all(len(child.steps["train/loss"]) == EPOCHS for child in children)
    assert not any((child.artifacts / "weights.safetensors").exists() for child in children)


def test_a_killed_run_goes_on_from_its_last_epoch_and_ends_as_an_unbroken_one(
    tuned, start_cli, finish_cli, run_cli, runs_of, command, tmp_path
):
    _, parent, _, folder = tuned
    cache = tmp_path / "cache"
    process = start_cli(*command, cwd=tmp_path, cache=cache, env={"SMALL_PAUSE": "0.5"})
    deadline = time.monotonic() + 120
    while not list(cache.glob("finetune-1/*/checkpoint.safetensors")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert finish_cli(process).returncode == -signal.SIGKILL
    assert len(weights_in(cache)) < 4
    (checkpoint,) = cache.glob("finetune-1/*/checkpoint.safetensors")
    assert checkpoint.parent.name in weights_in(folder / "cache")

    ended = run_cli(*command, cwd=tmp_path, cache=cache)
    assert ended.returncode == 0, ended.stderr
    assert weights_in(cache) == weights_in(folder / "cache")
    assert not list(cache.glob("finetune-1/*/checkpoint.safetensors"))
    runs = runs_of(tmp_path, "bserkit")
    assert [run.status for run in runs].count("KILLED") == 2
    (whole,) = (run for run in runs if run.status == "FINISHED" and "mlflow.parentRunId" not in run.tags)
    for name in ("predictions.csv", "results.csv"):
        assert (whole.artifacts / name).read_bytes() == (parent.artifacts / name).read_bytes(), name


def test_a_backbone_without_anything_to_learn_ends_with_2_before_a_run_is_opened(cli, corpus, fast, tmp_path):
    ended = cli("run", corpus / "manifest.csv", *fast, "--finetune", "sgd:epochs=1", cache=tmp_path / "cache")
    assert ended.returncode == 2
    assert "nothing that can be fine-tuned" in ended.stderr
    assert not (tmp_path / "mlruns").exists()


def test_extraction_refuses_a_configuration_that_fine_tunes(cli, corpus, fast, tmp_path):
    (tmp_path / "run.toml").write_text('finetune = "sgd:epochs=1"\n')
    ended = cli("extract", corpus / "manifest.csv", "out.parquet", *fast, "--config", "run.toml")
    assert ended.returncode == 2
    assert "weights=PATH" in ended.stderr
