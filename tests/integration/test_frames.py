"""A backbone that makes a vector a frame goes through ``bserkit run`` and ``bserkit extract`` as any other."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from bserkit.experiments.export import _groups
from bserkit.plugins.registry import load_plugins

PLUGINS = Path(__file__).parents[2] / "plugins"
CHOSEN = ("--plugins-dir", PLUGINS, "--backbone", "short-time:bands=12", "--channels", "lr")


@pytest.fixture(scope="module")
def extracted(run_cli, corpus, tmp_path_factory):
    """The tables of frames and of pooled utterances."""
    folder = tmp_path_factory.mktemp("frames")
    for name, options in (("frames", ()), ("pooled", ("--pooler", "block-max"))):
        ended = run_cli("extract", corpus / "manifest.csv", f"{name}.parquet", *CHOSEN, *options, cwd=folder)
        assert ended.returncode == 0, ended.stderr
    return [pd.read_parquet(folder / f"{name}.parquet") for name in ("frames", "pooled")]


def test_extract_writes_a_row_a_frame_with_its_times(extracted, corpus, rows):
    frames, _ = extracted
    (made,) = load_plugins([PLUGINS]).of_kind("backbone")["short-time"]
    backbone = made.component(bands=12)
    network = backbone.load("cpu")
    for path, _, _ in rows[::7]:
        samples, rate = soundfile.read(corpus / path, dtype="float32")
        of_left = frames[(frames["utterance"] == path) & (frames["channel"] == "left")]
        expected = network(torch.from_numpy(samples.T[:1].copy()))[0]
        np.testing.assert_allclose(np.stack(of_left["feature"]), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(of_left[["start", "end"]], backbone.frame_bounds(len(samples)) / rate)
        assert of_left["segment"].tolist() == list(range(len(of_left)))


def test_a_pooled_row_is_of_all_frames(extracted):
    frames, pooled = extracted
    assert len(pooled) == 2 * 36
    assert {len(one) for one in pooled["feature"]} == {2 * 2 * 12}
    row = pooled.iloc[0]
    of_it = np.stack(
        frames[(frames["utterance"] == row["utterance"]) & (frames["channel"] == row["channel"])]["feature"]
    )
    half = len(of_it) // 2
    expected = np.concatenate([np.abs(part).max(axis=0) for part in (of_it[:half], of_it[half:])])
    np.testing.assert_array_equal(row["feature"][:24], expected)


def test_frames_make_an_ordinary_run(run_cli, read_run, corpus, lab):
    ended = run_cli("run", corpus / "manifest.csv", *CHOSEN, "--pooler", "block-max", cwd=lab)
    assert ended.returncode == 0, ended.stderr
    run = read_run(lab, ended)
    params = dict(run.params)
    assert (params["backbone"], params["frontend"], params["pooler"]) == ("short-time", "waveform", "block-max")
    assert run.metrics["uar"] > 0.4


def test_export_holds_little_of_long_recordings():
    assert list(_groups([1.0] * 130)) == [range(0, 64), range(64, 128), range(128, 130)]
    assert list(_groups([500.0, 90.0, 20.0, 3600.0, 5.0])) == [range(0, 2), range(2, 3), range(3, 4), range(4, 5)]
    assert list(_groups([3600.0])) == [range(0, 1)]
