"""What a user meets when something goes wrong: exit codes, one paragraph, nothing lost, nothing half-done."""

from __future__ import annotations

import pickle
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

EXTRACTING = "Extracting features"
TRACEBACK = "Traceback (most recent call last)"
BAD = {
    "bad/corrupt.wav": "it cannot be decoded",
    "bad/empty.wav": "it cannot be decoded",
    "bad/nan.wav": "it holds values that are not numbers",
    "bad/sample.wav": "it has 1 samples",
    "bad/silent.wav": "it is silent throughout",
}


def paragraph(ended):
    """Return the one paragraph of a failure, after checking that it is the last thing said."""
    _, start, text = ended.stderr.partition("Error: ")
    assert start, f"no error is shown: {ended.stderr!r}"
    assert TRACEBACK not in ended.stderr
    assert ended.stdout == ""
    return text.removesuffix("\n")


def features_in(cache):
    return sorted(path.relative_to(cache) for path in cache.glob("features-*/*/*/*.safetensors"))


def wait_for_features(process, cache, more_than):
    """Wait until a process has kept features, as long as it lives."""
    while len(features_in(cache)) <= more_than:
        assert process.poll() is None
        time.sleep(0.02)


@pytest.fixture(scope="module")
def broken_off(start_cli, finish_cli, run_cli, runs_of, lab, corpus, fast, tmp_path_factory, first_run):
    """The same command interrupted, terminated, killed and at last left to its end: what each said, kept and logged."""
    cache = tmp_path_factory.mktemp("broken-off")
    command = ("run", corpus / "manifest.csv", *fast, "--experiment", "broken-off")
    ends, kept = [], []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = start_cli(*command, cwd=lab, cache=cache, env={"BAND_MEANS_PAUSE": "120"})
        wait_for_features(process, cache, more_than=kept[-1] if kept else 0)
        process.send_signal(number)
        ends.append(finish_cli(process))
        kept.append(len(features_in(cache)))
    before = [run.status for run in runs_of(lab, "broken-off")]
    ends.append(run_cli(*command, cwd=lab, cache=cache))
    return ends, kept, before, runs_of(lab, "broken-off"), cache


@pytest.mark.parametrize("nth", [0, 1], ids=["interrupted", "terminated"])
def test_an_interrupted_run_ends_with_1_and_is_killed(broken_off, nth):
    ends, _, _, runs, _ = broken_off
    assert ends[nth].returncode == 1
    assert ends[nth].stderr.splitlines()[-1] == (
        "Interrupted. Features computed so far are kept; the same command goes on from there."
    )
    assert TRACEBACK not in ends[nth].stderr
    assert ends[nth].stdout == ""
    assert (runs[nth].status, runs[nth].tags["bserkit.ended"]) == ("KILLED", "interrupted")


#: Backbone ``trap``: an interrupt arrives while one of its objects is destroyed; then it would take a minute.
TRAP = '''
import os
import signal
import time

from bserkit import Backbone, hookimpl


class Destroyed:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)


class Trap(Backbone):
    """Is interrupted where Python ignores exceptions."""

    name = "trap"

    def weights_digest(self):
        return "none"

    def feature_size(self):
        return 1

    def load(self, device):
        Destroyed()
        time.sleep(60)


@hookimpl
def bserkit_backbones():
    return [Trap]
'''


def test_an_interrupt_in_a_destructor_ends_the_run(start_cli, finish_cli, corpus, tmp_path):
    (tmp_path / "trap.py").write_text(TRAP)
    command = ("run", corpus / "manifest.csv", "--plugins-dir", tmp_path, "--backbone", "trap")
    ended = finish_cli(start_cli(*command, cwd=tmp_path))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("Interrupted.")
    assert "Traceback" not in ended.stderr


def test_a_vanished_run_is_marked_killed_by_the_next(broken_off):
    ends, _, before, runs, _ = broken_off
    assert ends[2].returncode == -signal.SIGKILL
    assert before == ["KILLED", "KILLED", "RUNNING"]
    assert runs[2].status == "KILLED"
    assert "vanished" in runs[2].tags["bserkit.ended"]


def test_a_repeated_command_completes_a_broken_off_run(broken_off):
    ends, kept, _, runs, cache = broken_off
    assert ends[3].returncode == 0, ends[3].stderr
    assert runs[3].status == "FINISHED"
    assert 0 < kept[0] < kept[1] < kept[2] < len(features_in(cache)) == 4 * 36
    (line,) = (line for line in ends[3].stderr.splitlines() if line.startswith(EXTRACTING))
    computed = int(line.removeprefix(f"{EXTRACTING}: ").split()[0])
    assert 0 < computed < 36


def test_a_completed_run_equals_an_uninterrupted_one(broken_off, first_run):
    _, _, _, runs, _ = broken_off
    for name in ("predictions.csv", "results.csv", "fusion_search.csv"):
        assert (runs[3].artifacts / name).read_bytes() == (first_run.artifacts / name).read_bytes(), name


def test_two_extractions_at_once_can_share_a_store(start_cli, finish_cli, tmp_path, corpus, fast):
    cache = tmp_path / "cache"
    names = ("one.parquet", "other.parquet")
    processes = [
        start_cli("extract", corpus / "manifest.csv", name, *fast, cwd=tmp_path, cache=cache) for name in names
    ]
    for ended in map(finish_cli, processes):
        assert ended.returncode == 0, ended.stderr
    assert len(features_in(cache)) == 4 * 36
    assert not list(cache.rglob("*.partial"))
    pd.testing.assert_frame_equal(*(pd.read_parquet(tmp_path / name) for name in names), check_exact=True)


def test_two_first_runs_at_once_both_finish(start_cli, finish_cli, runs_of, corpus, fast, tmp_path, first_run):
    processes = [start_cli("run", corpus / "manifest.csv", *fast, cwd=tmp_path) for _ in range(2)]
    for ended in map(finish_cli, processes):
        assert ended.returncode == 0, ended.stderr
    runs = runs_of(tmp_path, "bserkit")
    assert [run.status for run in runs] == ["FINISHED", "FINISHED"]
    expected = (first_run.artifacts / "predictions.csv").read_bytes()
    assert [(run.artifacts / "predictions.csv").read_bytes() for run in runs] == [expected, expected]


def test_a_failing_run_is_marked_failed_with_reason(cli, runs_of, lab, corpus, fast, first_run):
    command = ("run", corpus / "manifest.csv", *fast, "--pooler", "unlucky", "--experiment", "unlucky")
    ended = cli(*command, cwd=lab)
    assert ended.returncode == 1
    assert paragraph(ended).startswith("ValueError: no such luck\n")
    (run,) = runs_of(lab, "unlucky")
    assert (run.status, run.tags["bserkit.ended"]) == ("FAILED", "ValueError: no such luck")
    assert not (run.artifacts / "predictions.csv").exists()


def test_bad_recordings_are_left_out_and_listed(cli, read_run, lab, corpus, rows, manifest, fast, first_run):
    (corpus / "bad").mkdir()
    (corpus / "bad/corrupt.wav").write_bytes(np.random.default_rng(0).bytes(4000))
    (corpus / "bad/empty.wav").touch()
    soundfile.write(corpus / "bad/nan.wav", np.full((8000, 2), np.nan), 16000, "FLOAT")
    soundfile.write(corpus / "bad/sample.wav", np.full((1, 2), 0.5), 16000)
    soundfile.write(corpus / "bad/silent.wav", np.zeros((8000, 2)), 16000)
    path = manifest("bad.csv", [*((name, "mad", "dan") for name in BAD), *rows, ("no.wav", "mad", "dan")])
    ended = cli("run", path, *fast, cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    listed = pd.read_csv(run.artifacts / "skipped.csv").set_index("utterance")["reason"]
    assert sorted(listed.index) == [*BAD, "line 43"]
    for name, reason in (BAD | {"line 43": "there is no file 'no.wav'"}).items():
        assert listed[name].startswith(reason), name
        assert f"{name}: {listed[name]}" in ended.stderr
    assert "6 left out" in ended.stderr
    assert (run.metrics["utterances"], run.metrics["skipped"]) == (36, 6)
    assert (run.artifacts / "predictions.csv").read_bytes() == (first_run.artifacts / "predictions.csv").read_bytes()


def test_a_corpus_of_bad_recordings_names_them(cli, tmp_path, fast):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(b"no audio")
    (tmp_path / "m.csv").write_text("path,label,speaker\na.wav,mad,ann\nb.wav,calm,ann\n")
    ended = cli("run", "m.csv", *fast)
    assert ended.returncode == 1
    assert "a.wav: it cannot be decoded" in paragraph(ended)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pooler", "blok-max"], ["no pooler named 'blok-max'", "did you mean 'block-max'?", "global-avg"]),
        (["--pooler", "block-max:block=3"], ["no parameter 'block'", "did you mean 'blocks'?", "blocks=2"]),
        (["--pooler", "block-max:blocks=0"], ["blocks=0", "greater than or equal to 1"]),
        (["--fusion", "two-stage:tune=test"], ["tune=test", "'inner' or 'oracle'"]),
        (["--channels", "lr,lr"], ["both make a channel 'left'"]),
        (["--fusion", "mean,feature"], ["takes one component", "names 2"]),
        (["--mono", "keep"], ["--mono keep is not known", "refuse, duplicate, skip"]),
        (["--device", "gpu"], ["--device gpu is not known", "auto, cpu, cuda"]),
        (["--precision", "fp64"], ["--precision fp64 is not known", "bf16"]),
        (["--corpus", "emodb"], ["The reader emodb reads a folder"]),
        (["--protocol", "predefined"], ["needs a split 'train'", "--protocol loso"]),
        (["--backbone", "torchvision"], ["'arch' is required"]),
        (["--backbone", "torchvision:arch=alexnett,weights=random"], ["'alexnett'", "did you mean 'alexnet'?"]),
        (["--plugins-dir", "nowhere"], ["The plugins folder nowhere does not exist"]),
    ],
    ids=lambda value: " ".join(value) if value[0].startswith("--") else "",
)
def test_wrong_usage_ends_with_2_and_known_values(cli, tmp_path, corpus, fast, options, said):
    given = fast[:2] if options[0] == "--backbone" else fast
    ended = cli("run", corpus / "manifest.csv", *given, *options)
    assert ended.returncode == 2
    text = paragraph(ended)
    for part in said:
        assert part in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ('poler = "block-max"', ["no setting 'poler'", "did you mean 'pooler'?"]),
        ('pooler = "block-max', ["is not TOML"]),
        ("pooler = 3", ["3 is not a component"]),
        ('[pooler]\nname = "block-max"\nblock = 3', ["no parameter 'block'"]),
        ("seed = 1.5", ["seed is 1.5", "whole number"]),
        ("data = 5", ["data", "5"]),
        ("cache = 5", ["cache", "5"]),
        ("channels = []", ["channels"]),
    ],
)
def test_a_wrong_config_ends_with_2_naming_the_setting(cli, tmp_path, corpus, fast, settings, said):
    config = tmp_path / "x.toml"
    config.write_text(settings + "\n")
    data = [] if settings.startswith("data") else [corpus / "manifest.csv"]
    ended = cli("run", *data, *fast, "--config", config)
    text = paragraph(ended)
    for part in said:
        assert part in text
    assert ended.returncode == 2, text
    assert list(tmp_path.iterdir()) == [config]


def test_relative_paths_in_a_config_start_at_the_file(cli, tmp_path, corpus):
    folder = tmp_path / "settings"
    folder.mkdir()
    (folder / "x.toml").write_text('[backbone]\nname = "alexnet"\nweights = "net.pth"\n')
    ended = cli("run", corpus / "manifest.csv", "--config", folder / "x.toml")
    assert ended.returncode == 2
    assert f"no weights file at {folder / 'net.pth'}" in paragraph(ended)


def test_a_missing_corpus_or_config_ends_with_2(cli, fast):
    for arguments in (["nowhere"], ["--config", "nowhere"]):
        ended = cli("run", *arguments, *fast)
        assert ended.returncode == 2
        assert "nowhere" in paragraph(ended)


def test_an_unknown_option_ends_with_2(cli):
    ended = cli("run", "--poolr", "block-max")
    assert ended.returncode == 2
    assert "--pooler" in ended.stderr
    assert TRACEBACK not in ended.stderr


@pytest.mark.parametrize("behind", [False, True], ids=["before the command", "behind it"])
def test_verbose_shows_where_and_keeps_the_exit_code(cli, corpus, fast, behind):
    command = ("run", corpus / "manifest.csv", *fast, "--pooler", "blok-max")
    plain, verbose = cli(*command), cli(*command, "-v") if behind else cli("-v", *command)
    assert TRACEBACK not in plain.stderr
    assert TRACEBACK in verbose.stderr
    assert paragraph(plain) in verbose.stderr
    assert (plain.returncode, verbose.returncode) == (2, 2)


def test_unforeseen_errors_show_tracebacks_if_asked(cli, corpus, fast, first_run):
    command = ("extract", corpus / "manifest.csv", "out.parquet", *fast, "--pooler", "unlucky")
    plain, verbose = cli(*command), cli("-v", *command)
    assert (plain.returncode, verbose.returncode) == (1, 1)
    text = paragraph(plain)
    assert text.startswith("ValueError: no such luck\n")
    assert "bserkit -v" in text
    assert TRACEBACK in verbose.stderr
    assert "unlucky.py" in verbose.stderr


def test_an_unusable_tracking_store_ends_with_1(cli, tmp_path, corpus, fast, first_run):
    (tmp_path / "mlruns").write_text("in the way")
    ended = cli("run", corpus / "manifest.csv", *fast)
    assert ended.returncode == 1
    assert f"The tracking store sqlite:///{tmp_path}/mlruns/mlflow.db cannot be used" in paragraph(ended)


def test_an_unwritable_feature_store_ends_with_1(cli, tmp_path, corpus, fast):
    (tmp_path / "cache").write_text("in the way")
    ended = cli("extract", corpus / "manifest.csv", "out.parquet", *fast, env={"BSERKIT_CACHE": "cache"})
    assert ended.returncode == 1
    text = paragraph(ended)
    assert "/cache cannot be written to" in text
    assert "--cache DIR" in text


def test_only_deleted_features_are_computed_again(cli, tmp_path, corpus, fast):
    cache = tmp_path / "cache"
    command = ("extract", corpus / "manifest.csv", "out.parquet", *fast, "--pooler", "global-max")
    assert "Extracting features: 36 utterances" in cli(*command, cache=cache).stderr
    first, files = pd.read_parquet(tmp_path / "out.parquet"), features_in(cache)
    for path in files[:2]:
        (cache / path).unlink()
    again = cli(*command, cache=cache)
    assert again.returncode == 0, again.stderr
    missing = {path.stem for path in files[:2]}
    assert f"Extracting features: {len(missing)} utterances" in again.stderr
    assert features_in(cache) == files
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "out.parquet"), first)


def test_missing_imagenet_weights_name_the_ways_out(cli, tmp_path, corpus):
    torch_home = tmp_path / "torch"
    nowhere = "http://127.0.0.1:9"
    env = {name: nowhere for proxy in ("http_proxy", "https_proxy") for name in (proxy, proxy.upper())}
    env |= {"no_proxy": "", "NO_PROXY": "", "TORCH_HOME": str(torch_home)}
    ended = cli("run", corpus / "manifest.csv", env=env)
    assert ended.returncode == 1
    text = paragraph(ended)
    assert "\n" not in text
    assert str(torch_home / "hub" / "checkpoints" / "alexnet-owt-7be5be79.pth") in text
    assert "--backbone alexnet:weights=PATH" in text
    assert "--backbone alexnet:weights=random" in text
    assert not [path for path in torch_home.rglob("*") if path.is_file()]
    assert list(tmp_path.iterdir()) == [torch_home]


def test_missing_weights_files_are_found_before_audio(cli, tmp_path, corpus):
    ended = cli("run", corpus / "manifest.csv", "--backbone", "alexnet:weights=net.pth", cache=tmp_path / "cache")
    assert ended.returncode == 2
    assert f"there is no weights file at {tmp_path / 'net.pth'}" in paragraph(ended)
    assert "Checking audio" not in ended.stderr
    assert not list(tmp_path.iterdir())


def payload(marker):
    """Return a pickle that, where it is trusted, runs code: it creates a file."""
    return f"cbuiltins\nopen\n(V{marker}\nVw\ntR.".encode()


def test_the_malicious_pickle_would_run_if_trusted(tmp_path):
    pickle.loads(payload(tmp_path / "ran")).close()  # noqa: S301
    assert (tmp_path / "ran").exists()


def write_no_weights(path, kind):
    """Write a file that is no state dict of the network; return what the error must say."""
    marker = path.with_name("ran")
    if kind == "text":
        path.write_text("these are not weights")
    elif kind == "pickled code":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in (("data.pkl", payload(marker)), ("version", b"3\n"), ("byteorder", b"little")):
                archive.writestr(f"net/{name}", content)
    else:
        torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3), "other": torch.zeros(1)}, path)
        return ["does not fit alexnet", "lacks classifier.1.bias"]
    return ["is not a state dict that can be read safely"]


@pytest.mark.parametrize("kind", ["text", "pickled code", "state of another network"])
def test_a_non_state_dict_is_refused_unrun_before_work(cli, tmp_path, corpus, kind):
    path = tmp_path / "net.pth"
    said = write_no_weights(path, kind)
    command = ("extract", corpus / "manifest.csv", "out.parquet", "--backbone", f"alexnet:weights={path}")
    ended = cli(*command, cache=tmp_path / "cache")
    assert ended.returncode == 1
    text = paragraph(ended)
    for part in (str(path), *said):
        assert part in text
    assert not (tmp_path / "ran").exists()
    assert not features_in(tmp_path / "cache")
    assert not (tmp_path / "out.parquet").exists()


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to")
def test_an_unwritable_output_file_is_named(cli, corpus, fast, first_run):
    ended = cli("extract", corpus / "manifest.csv", "/proc/self/out.parquet", *fast, "--pooler", "global-max")
    assert ended.returncode in (1, 2)
    assert "/proc/self/out.parquet cannot be written" in paragraph(ended)
