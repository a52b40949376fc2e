"""``bserkit extract`` and the commands that look at components, plugins and the feature store."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from bserkit.features.pooling import Pooler
from bserkit.plugins.registry import KINDS, load_plugins
from bserkit.tracking.place import ui_command

CHANNELS = ["left", "right", "mid", "side"]
COLUMNS = ["utterance", "label", "speaker", "session", "split", "channel", "segment", "start", "end", "feature"]
POOLER = "block-max:blocks=3,pyramid=true"


@pytest.fixture(scope="module")
def extracted(run_cli, corpus, fast, tmp_path_factory):
    """A file of segments and one of pooled utterances, and what the commands said."""
    folder = tmp_path_factory.mktemp("extracted")
    ends = {}
    for name, options in (("segments", ()), ("pooled", ("--pooler", POOLER))):
        ends[name] = run_cli("extract", corpus / "manifest.csv", f"{name}.parquet", *fast, *options, cwd=folder)
        assert ends[name].returncode == 0, ends[name].stderr
    return folder, ends


def test_segment_file_rows_are_segments_by_channel(extracted, rows):
    folder, ends = extracted
    table = pd.read_parquet(folder / "segments.parquet")
    assert list(table.columns) == COLUMNS
    assert ends["segments"].stdout == f"{len(table)} rows of 36 utterances in segments.parquet\n"
    described = set(table[["utterance", "label", "speaker"]].itertuples(index=False, name=None))
    assert described == set(rows)
    for (item, channel), segments in table.groupby(["utterance", "channel"]):
        assert segments["segment"].tolist() == list(range(len(segments))), (item, channel)
    counts = table.groupby(["utterance", "channel"]).size().unstack()
    assert sorted(counts.columns) == sorted(CHANNELS)
    assert counts.nunique(axis=1).eq(1).all()
    assert (set(table["session"]), set(table["split"])) == ({""}, {""})


def test_segment_features_have_the_backbones_size(extracted):
    folder, _ = extracted
    table = pd.read_parquet(folder / "segments.parquet")
    features = np.stack(table["feature"])
    assert features.shape == (len(table), 192)
    assert features.dtype == np.float32
    assert np.isfinite(features).all()
    by_channel = [features[(table["channel"] == channel).to_numpy()] for channel in CHANNELS]
    for index, one in enumerate(by_channel):
        for other in by_channel[index + 1 :]:
            assert not np.allclose(one, other)


def test_segments_follow_by_the_shift_while_they_fit(extracted):
    folder, _ = extracted
    table = pd.read_parquet(folder / "segments.parquet")
    for (item, channel), segments in table.groupby(["utterance", "channel"]):
        # 0.9 s and 0.1 s more a take, in frames of 10 ms after the first transform of 32 ms.
        frames = (14400 + 1600 * int(item[-5]) - 512) // 160 + 1
        starts = 0.3 * np.arange((frames - 64) // 30 + 1)
        assert segments["start"].tolist() == pytest.approx(starts.tolist()), (item, channel)
        # 63 frames further, and the length of a window.
        assert segments["end"].tolist() == pytest.approx((starts + 0.655).tolist()), (item, channel)


def test_file_metadata_holds_each_channels_recipe(extracted, fast):
    folder, _ = extracted
    for name, pooler in (("segments", None), ("pooled", POOLER)):
        recipes = json.loads(pq.read_schema(folder / f"{name}.parquet").metadata[b"bserkit"])
        assert list(recipes) == CHANNELS
        for channel, recipe in recipes.items():
            assert recipe["channel"] == channel
            assert recipe["pooler"] == pooler
            assert recipe["backbone"]["name"] == "band-means"
            assert recipe["frontend"]["parameters"]["shift_frames"] == 30
            assert recipe["precision"] == "fp32"
        assert {channel: recipe["transform"]["name"] for channel, recipe in recipes.items()} == {
            "left": "lr", "right": "lr", "mid": "ms", "side": "ms"
        }  # fmt: skip


def test_pooled_file_is_the_pooler_on_the_segment_file(extracted):
    folder, ends = extracted
    segments, pooled = (pd.read_parquet(folder / f"{name}.parquet") for name in ("segments", "pooled"))
    assert list(pooled.columns) == COLUMNS
    assert ends["pooled"].stdout == "144 rows of 36 utterances in pooled.parquet\n"
    assert len(pooled) == 4 * 36
    pooler = load_plugins(outside=False).make(Pooler, POOLER)
    by_utterance = {key: np.stack(group["feature"]) for key, group in segments.groupby(["utterance", "channel"])}
    assert len(by_utterance) == len(pooled)
    for row in pooled.itertuples():
        expected = pooler.pool(by_utterance[row.utterance, row.channel])
        assert np.array_equal(row.feature, expected), (row.utterance, row.channel)
    assert set(pooled["segment"]) == {0}
    assert set(pooled["start"]) == {0.0}


def test_a_pooled_row_spans_its_whole_utterance(extracted):
    folder, _ = extracted
    pooled = pd.read_parquet(folder / "pooled.parquet")
    take = pooled["utterance"].str.extract(r"-(\d)\.wav")[0].astype(int)
    assert pooled["end"].tolist() == pytest.approx((0.9 + 0.1 * take).tolist())


def test_a_failed_extraction_leaves_old_files_alone(cli, tmp_path, corpus, fast):
    out = tmp_path / "old.parquet"
    out.write_bytes(b"older")
    for name in ("old.parquet", "new.parquet"):
        ended = cli("extract", corpus / "manifest.csv", name, *fast, "--pooler", "unlucky")
        assert ended.returncode == 1
        assert "no such luck" in ended.stderr
    assert list(tmp_path.iterdir()) == [out]
    assert out.read_bytes() == b"older"


def test_a_missing_output_folder_is_found_before_work(cli, tmp_path, corpus, fast):
    ended = cli("extract", corpus / "manifest.csv", "nowhere/out.parquet", *fast, cache=tmp_path / "cache")
    assert ended.returncode == 2
    assert "nowhere/out.parquet cannot be written: there is no folder nowhere" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.glob("cache/features-*"))


def test_extract_is_quiet_if_asked(cli, corpus, fast, extracted):
    ended = cli("extract", corpus / "manifest.csv", "out.parquet", *fast, "--pooler", "global-max", "--quiet")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == "144 rows of 36 utterances in out.parquet\n"


def test_components_lists_all_kinds_and_parameters(cli):
    ended = cli("components")
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == list(KINDS)
    for name in ("block-max", "two-stage", "alexnet", "logmel", "lr", "emovo", "loso", "linear-svm"):
        assert any(line.startswith(f"  {name} ") for line in lines), name
    assert any(line.startswith("      tune=inner  (inner|oracle)  ") for line in lines)


def test_components_of_one_kind_names_their_origin(cli, plugins_dir):
    ended = cli("components", "pooler", "--plugins-dir", plugins_dir)
    lines = ended.stdout.splitlines()
    assert lines[0] == "pooler"
    names = [line.split()[0] for line in lines[1:] if not line.startswith("   ")]
    assert names == ["block-avg", "block-max", "global-avg", "global-max", "unlucky", "vlad"]
    assert any(line.startswith("  unlucky ") and str(plugins_dir / "unlucky.py") in line for line in lines)
    assert any(line.startswith("      blocks=2  (int)  ") for line in lines)


def test_an_unknown_kind_of_components_ends_with_2(cli):
    ended = cli("components", "poolers")
    assert ended.returncode == 2
    assert "did you mean 'pooler'?" in ended.stderr
    assert all(kind in ended.stderr for kind in KINDS)


def test_plugins_tells_sources_and_failures(cli, tmp_path, plugins_dir):
    good = (plugins_dir / "unlucky.py").read_text()
    (tmp_path / "good.py").write_text(good)
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')\n")
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    (tmp_path / "misspelt.py").write_text(good.replace("bserkit_poolers", "bserkit_pooler"))
    (tmp_path / "_helper.py").write_text("raise RuntimeError('this is no plugin')\n")
    ended = cli("plugins", "--plugins-dir", ".")
    assert ended.returncode == 1
    lines = ended.stdout.splitlines()
    (source,) = (index for index, line in enumerate(lines) if line.startswith("good "))
    assert str(tmp_path / "good.py") in lines[source]
    assert lines[source + 1] == "    pooler unlucky"
    *failed, way_out = ended.stderr.splitlines()
    assert "--no-plugins" in way_out
    assert [line.split()[1] for line in failed] == ["broken", "leaves", "misspelt"]
    assert failed[0] == f"failed: broken ({tmp_path / 'broken.py'}): RuntimeError: not today"
    assert "SystemExit: 3" in failed[1]
    assert "did you mean 'bserkit_poolers'?" in failed[2]
    assert "Traceback" not in ended.stderr
    told = cli("plugins", "--plugins-dir", "broken.py", "-v")
    assert told.returncode == 1
    assert f'File "{tmp_path / "broken.py"}", line 1' in told.stderr
    alone = cli("plugins", "--plugins-dir", "good.py")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert "    pooler unlucky" in alone.stdout.splitlines()


def test_a_failed_plugin_is_named_when_it_is_missed(cli, tmp_path, corpus):
    (tmp_path / "broken.py").write_text("raise RuntimeError('not today')\n")
    ended = cli("run", corpus / "manifest.csv", "--plugins-dir", ".", "--pooler", "unlucky")
    assert ended.returncode == 2
    assert "There is no pooler named 'unlucky'" in ended.stderr
    assert "Plugins that failed to load: broken: RuntimeError: not today" in ended.stderr


def test_outside_plugins_can_be_switched_off(cli, plugins_dir, corpus):
    listed = cli("plugins", "--plugins-dir", plugins_dir, "--no-plugins")
    assert "band_means" not in listed.stdout
    ended = cli("run", corpus / "manifest.csv", "--plugins-dir", plugins_dir, "--no-plugins", "--pooler", "unlucky")
    assert ended.returncode == 2
    assert "There is no pooler named 'unlucky'" in ended.stderr


def test_code_in_the_working_folder_is_not_run_unasked(cli, start_cli, finish_cli, tmp_path, plugins_dir):
    for folder in (tmp_path, tmp_path / "plugins"):
        folder.mkdir(exist_ok=True)
        (folder / "own.py").write_text("open('ran', 'w').close()\n")
    assert finish_cli(start_cli("components", cwd=tmp_path)).returncode == 0
    assert not (tmp_path / "ran").exists()
    assert cli("components", env={"BSERKIT_PLUGINS_DIR": "plugins"}).returncode == 0
    assert (tmp_path / "ran").exists()


def test_cache_shows_what_is_kept_and_prune_deletes_it(cli, tmp_path, corpus, fast):
    cache = tmp_path / "cache"
    command = ("extract", corpus / "manifest.csv", "out.parquet", *fast, "--channels", "mono", "--quiet")
    assert cli("cache", cache=cache).stdout == f"      0.0 MB in {cache}\n"
    assert cli(*command, cache=cache).returncode == 0
    files = list(cache.glob("features-*/*/*/*.safetensors"))
    size = sum(path.stat().st_size for path in files) / 1e6
    shown = cli("cache", cache=cache).stdout.splitlines()
    assert len(files) == 36
    assert len(shown) == 2
    assert shown[0].startswith(f"{size:9.1f} MB      36 files  used ")
    assert shown[0].endswith("mono, logmel, band-means, none, fp32")
    assert shown[1] == f"{size:9.1f} MB in {cache}"
    assert cli("cache", "prune", "--older-than", "1", cache=cache).stdout == "Deleted 0 files, 0.0 MB.\n"
    assert len(list(cache.glob("features-*/*/*/*.safetensors"))) == 36
    assert cli("cache", "prune", cache=cache).stdout == f"Deleted 36 files, {size:.1f} MB.\n"
    assert cli("cache", cache=cache).stdout == f"      0.0 MB in {cache}\n"
    assert not list(cache.glob("features-*/*/*/*.safetensors"))


def test_the_ui_serves_local_runs_to_this_machine_only(monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    command, environment = ui_command(5123)
    assert command[:5] == [sys.executable, "-P", "-m", "mlflow", "ui"]
    options = dict(zip(command[5::2], command[6::2], strict=True))
    del options["--uvicorn-opts"]
    here = f"sqlite:///{Path.cwd()}/mlruns/mlflow.db"
    assert options == {"--host": "127.0.0.1", "--port": "5123"}
    assert environment["MLFLOW_BACKEND_STORE_URI"] == here


def test_the_ui_follows_mlflow_tracking_uri(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://ann:secret@elsewhere/runs")
    command, environment = ui_command(5000)
    assert environment["MLFLOW_BACKEND_STORE_URI"] == "postgresql://ann:secret@elsewhere/runs"
    # Any user of the machine sees what commands run.
    assert "secret" not in " ".join(command)
    assert command[command.index("--host") + 1] == "127.0.0.1"
