import errno
import json
import os
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load_file, save

from bserkit import BserkitError
from bserkit.store import FeatureStore, default_folder, write_whole

RECIPE = {"channel": "mid", "backbone": {"name": "alexnet", "parameters": {"layer": "fc7"}}, "precision": "fp32"}
OTHER = RECIPE | {"channel": "side"}
DIGEST = "ab" + "0" * 62

# Kills the writer after its first call into C, after its second, and so on until it lives to the end.
WRITER = """
import json
import os
import signal
import sys
from pathlib import Path
import numpy as np
from safetensors.numpy import load_file
from bserkit.store import FeatureStore

features, times = np.ones((50, 64), np.float32), np.zeros((50, 2))
FeatureStore(Path(sys.argv[1], "first")).write_features({"channel": "mid"}, "a" * 64, features, times)

def killed_at(step, root):
    child = os.fork()
    if child:
        return os.WIFSIGNALED(os.waitpid(child, 0)[1])
    taken = 0
    def count(frame, event, what):
        nonlocal taken
        taken += event == "c_return"
        if taken == step and event == "c_return":
            os.kill(os.getpid(), signal.SIGKILL)
    sys.setprofile(count)
    FeatureStore(root).write_features({"channel": "mid"}, "a" * 64, features, times)
    sys.setprofile(None)
    os._exit(0)

step = 1
while True:
    root = Path(sys.argv[1], str(step))
    killed = killed_at(step, root)
    for note in root.rglob("recipe.json"):
        assert json.loads(note.read_bytes()) == {"channel": "mid"}
    found = list(root.rglob("*.safetensors"))
    for path in found:
        assert (load_file(path)["features"] == features).all()
    if not killed:
        break
    step += 1
assert found
print(step)
"""

VISITOR = """
import random
import sys
from pathlib import Path
import numpy as np
from bserkit.store import FeatureStore

store = FeatureStore(Path(sys.argv[1]))
order = [(channel, number) for channel in ("mid", "side") for number in range(20)] * 3
random.Random(int(sys.argv[2])).shuffle(order)
for channel, number in order:
    recipe, digest = {"channel": channel}, f"{number:064x}"
    expected = np.full((40, 256), number, np.float32)
    kept = store.read_features(recipe, digest)
    if kept is None:
        store.write_features(recipe, digest, expected, np.zeros((40, 2)))
        kept = store.read_features(recipe, digest)
    assert (kept[0] == expected).all()
    assert store.facts(digest, lambda: {"number": number}) == {"number": number}
"""

DYING_WRITER = """
import os
import signal
import sys
from pathlib import Path
import numpy as np
from bserkit.store import FeatureStore

moment = sys.argv[2]
real_fdopen = os.fdopen
store = FeatureStore(Path(sys.argv[1]))
store.write_features({"channel": "mid"}, "a" * 64, np.ones((50, 64), np.float32), np.zeros((50, 2)))

class Half:
    def __init__(self, stream):
        self.stream = stream
    def __enter__(self):
        return self
    def __exit__(self, *_):
        self.stream.close()
    def write(self, content):
        self.stream.write(content[: len(content) // 2])
        self.stream.flush()
        os.kill(os.getpid(), signal.SIGKILL)

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

if moment == "writing":
    os.fdopen = lambda *given: Half(real_fdopen(*given))
else:
    Path.replace = os.replace = os.rename = die
store.write_features({"channel": "mid"}, "b" * 64, np.ones((50, 64), np.float32), np.zeros((50, 2)))
"""


@pytest.fixture
def store(tmp_path):
    return FeatureStore(tmp_path / "cache")


def features(number=1.0, segments=3):
    values = np.full((segments, 8), number, np.float32)
    return values, np.stack([np.arange(segments), np.arange(segments) + 0.5], axis=1)


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def files_below(root):
    return sorted(path for path in root.rglob("*") if path.is_file())


def age(store, recipe, days):
    used = time.time() - 86400 * days
    os.utime(store.features_path(recipe, DIGEST).parent.parent / "recipe.json", (used, used))


def test_features_come_back_as_they_were_kept(store):
    values, times = features()
    store.write_features(RECIPE, DIGEST, values, times)
    kept_values, kept_times = store.read_features(RECIPE, DIGEST)
    np.testing.assert_array_equal(kept_values, values, strict=True)
    np.testing.assert_array_equal(kept_times, times, strict=True)
    assert store.has(RECIPE, DIGEST)


@settings(max_examples=30)
@given(
    hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        hnp.array_shapes(min_dims=2, max_dims=2, min_side=1),
        elements=st.floats(-100, 100, width=16),
    ),
    st.booleans(),
)
def test_features_of_any_shape_and_precision_come_back(tmp_path_factory, values, transposed):
    store = FeatureStore(tmp_path_factory.mktemp("cache"))
    values = values.T if transposed else values
    store.write_features(RECIPE, DIGEST, values, np.zeros((len(values), 2)))
    np.testing.assert_array_equal(store.read_features(RECIPE, DIGEST)[0], values, strict=True)


def test_features_that_were_not_kept_are_missing(store):
    assert store.read_features(RECIPE, DIGEST) is None
    assert not store.has(RECIPE, DIGEST)
    assert list(store.entries()) == []
    assert store.prune() == (0, 0)


def test_another_recipe_or_digest_is_another_place(store):
    store.write_features(RECIPE, DIGEST, *features(1))
    store.write_features(OTHER, DIGEST, *features(2))
    assert store.read_features(RECIPE, DIGEST)[0][0, 0] == 1
    assert store.read_features(OTHER, DIGEST)[0][0, 0] == 2
    assert store.read_features(RECIPE, "cd" + DIGEST[2:]) is None


def test_the_key_ignores_the_order_of_a_recipe(store):
    store.write_features(RECIPE, DIGEST, *features())
    assert store.has(dict(reversed(RECIPE.items())), DIGEST)


def test_files_are_safetensors_with_a_readable_recipe(store):
    values, times = features()
    store.write_features(RECIPE, DIGEST, values, times)
    path = store.features_path(RECIPE, DIGEST)
    kept = load_file(path)
    assert sorted(kept) == ["features", "times"]
    np.testing.assert_array_equal(kept["features"], values)
    assert json.loads((path.parent.parent / "recipe.json").read_text()) == RECIPE


def spoil_by_emptying(path):
    path.write_bytes(b"")


def spoil_by_cutting(path):
    path.write_bytes(path.read_bytes()[:-7])


def spoil_by_cutting_the_header(path):
    path.write_bytes(path.read_bytes()[:20])


def spoil_by_overwriting(path):
    path.write_bytes(b"\xff" * 500)


def spoil_by_flipping_a_bit_of_a_value(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def spoil_by_flipping_a_bit_of_the_header(path):
    content = path.read_bytes()
    assert b"[3,8]" in content or b"[3, 8]" in content
    path.write_bytes(content.replace(b"[3, 8]", b"[8, 3]").replace(b"[3,8]", b"[8,3]"))


def spoil_by_zeroing(path):
    content = path.read_bytes()
    path.write_bytes(content[:-64] + bytes(64))


def spoil_by_lengthening(path):
    path.write_bytes(path.read_bytes() + bytes(8))


def spoil_by_other_content(path):
    from safetensors.numpy import save_file

    save_file({"something": np.zeros(3)}, path)


@pytest.mark.parametrize(
    "spoil",
    [
        spoil_by_emptying,
        spoil_by_cutting,
        spoil_by_cutting_the_header,
        spoil_by_overwriting,
        spoil_by_other_content,
        spoil_by_flipping_a_bit_of_a_value,
        spoil_by_flipping_a_bit_of_the_header,
        spoil_by_zeroing,
        spoil_by_lengthening,
    ],
)
def test_a_damaged_file_is_missing_and_can_be_replaced(store, spoil):
    store.write_features(RECIPE, DIGEST, *features())
    spoil(store.features_path(RECIPE, DIGEST))
    assert store.read_features(RECIPE, DIGEST) is None
    assert not store.has(RECIPE, DIGEST)
    store.write_features(RECIPE, DIGEST, *features(5))
    assert store.read_features(RECIPE, DIGEST)[0][0, 0] == 5


@pytest.mark.parametrize("other", [(OTHER, DIGEST), (RECIPE, "cd" + DIGEST[2:])], ids=["recipe", "utterance"])
def test_a_file_in_anothers_place_is_missing(store, other):
    store.write_features(RECIPE, DIGEST, *features())
    store.write_features(*other, *features(2))
    store.features_path(RECIPE, DIGEST).replace(store.features_path(*other))
    assert store.read_features(*other) is None


def test_facts_in_anothers_place_are_found_out_again(store):
    store.facts(DIGEST, lambda: {"channels": 1})
    (path,) = store.root.rglob("*.json")
    path.rename(path.with_name(f"{DIGEST}.sound.json"))
    assert store.known_facts(DIGEST, "sound") is None


def test_flipped_bits_are_noticed_or_harmless(store):
    values, times = features(segments=1)
    store.write_features(RECIPE, DIGEST, values, times)
    path = store.features_path(RECIPE, DIGEST)
    whole = path.read_bytes()
    for position in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        path.write_bytes(changed)
        kept = store.read_features(RECIPE, DIGEST)
        assert kept is None or ((kept[0] == values).all() and (kept[1] == times).all())


def test_a_store_that_was_moved_is_read(store, tmp_path):
    store.write_features(RECIPE, DIGEST, *features())
    store.root.rename(tmp_path / "elsewhere")
    assert FeatureStore(tmp_path / "elsewhere").read_features(RECIPE, DIGEST) is not None


def test_damage_is_told_once_with_the_first_file(store):
    for recipe in (RECIPE, OTHER):
        store.write_features(recipe, DIGEST, *features())
        spoil_by_cutting(store.features_path(recipe, DIGEST))
        store.read_features(recipe, DIGEST)
    said = []
    store.tell_damage(said.append)
    store.tell_damage(said.append)
    assert len(said) == 1
    assert "2 files of the feature store" in said[0]
    assert str(store.features_path(RECIPE, DIGEST).relative_to(store.root)) in said[0]


def old_format(store):
    features = store.root / "features-1" / "0123" / "ab" / "ab00.safetensors"
    facts = store.root / "audio-1" / "ab" / "ab00.json"
    for path in (features, facts):
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1234")
    return features, facts


def test_an_old_format_is_told_listed_and_kept(store):
    kept = old_format(store)
    store.write_features(RECIPE, DIGEST, *features())
    said = []
    store.tell_old_formats(said.append)
    assert len(said) == 1
    assert "format 1" in said[0]
    assert f"bserkit cache --cache {store.root} prune --old-formats" in said[0]
    assert sorted((entry.format, entry.folder.parent.name) for entry in store.entries()) == [
        (1, store.root.name),
        (1, "features-1"),
        (2, "features-2"),
    ]
    assert all("format 1" in entry.described() for entry in store.entries() if entry.format == 1)
    assert all(path.exists() for path in kept)


def test_old_formats_alone_can_be_pruned(store):
    old_format(store)
    store.write_features(RECIPE, DIGEST, *features())
    assert store.prune(old_formats_alone=True) == (2, 8)
    assert not list(store.root.glob("*-1"))
    assert store.has(RECIPE, DIGEST)
    said = []
    store.tell_old_formats(said.append)
    assert not said


def test_a_damaged_note_is_written_anew_when_used(store):
    store.write_features(RECIPE, DIGEST, *features())
    note = store.features_path(RECIPE, DIGEST).parent.parent / "recipe.json"
    note.write_bytes(note.read_bytes().replace(b"mid", b"mad"))
    assert [entry.recipe for entry in store.entries()] == [{}]
    store.touch(RECIPE)
    assert [entry.recipe for entry in store.entries()] == [RECIPE]


def test_a_network_reaches_the_disk_before_its_name(store, monkeypatch):
    done = []
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync"))
    real = type(store.root).replace
    monkeypatch.setattr(type(store.root), "replace", lambda self, to: (done.append("rename"), real(self, to))[1])
    content = save({"weight": np.ones(3, np.float32)})
    path = store.training_folder({"fold": "a"}) / "weights.safetensors"
    store.write_network(path, content, {"curves": "[]"})
    assert done == ["fsync", "rename", "fsync"]
    assert store.read_notes(path) == {"curves": "[]"}
    np.testing.assert_array_equal(load_file(path)["weight"], np.ones(3))


def test_facts_are_found_out_once(store):
    asked = []

    def find_out():
        asked.append(1)
        return {"channels": 2, "problem": ""}

    assert store.facts(DIGEST, find_out) == store.facts(DIGEST, find_out) == {"channels": 2, "problem": ""}
    assert len(asked) == 1


@pytest.mark.parametrize(
    "content", [b"", b'{"channels": 2', b"\xff\xfe", b"{]", b"{}", b"[]", b'{"facts": {"channels": 1}}']
)
def test_damaged_facts_are_found_out_again(store, content):
    store.facts(DIGEST, lambda: {"channels": 1})
    (path,) = store.root.rglob("*.json")
    path.write_bytes(content)
    assert store.facts(DIGEST, lambda: {"channels": 2}) == {"channels": 2}
    assert store.facts(DIGEST, lambda: pytest.fail("it was not kept")) == {"channels": 2}


@pytest.mark.parametrize("content", [b"", b'{"channel": ', b"\xff\xfe"])
def test_damaged_recipes_stop_no_listing_or_pruning(store, content):
    store.write_features(RECIPE, DIGEST, *features())
    store.write_features(OTHER, DIGEST, *features())
    (store.features_path(RECIPE, DIGEST).parent.parent / "recipe.json").write_bytes(content)
    assert OTHER in [entry.recipe for entry in store.entries()]
    store.prune()
    assert not store.has(OTHER, DIGEST)


@pytest.mark.parametrize("moment", ["writing", "renaming"])
def test_a_killed_writer_leaves_nothing_half_written(store, moment):
    with start(DYING_WRITER, store.root, moment) as writer:
        _, complaint = writer.communicate(timeout=60)
    assert writer.returncode == -9, complaint.decode()
    assert store.read_features({"channel": "mid"}, "a" * 64) is not None
    assert not store.has({"channel": "mid"}, "b" * 64)
    assert [path.stem for path in store.root.rglob("*.safetensors")] == ["a" * 64]
    assert len(list(store.root.rglob("*.partial"))) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_writer_killed_at_any_step_leaves_no_halves(tmp_path):
    with start(WRITER, tmp_path) as writer:
        steps, complaint = writer.communicate(timeout=120)
    assert writer.returncode == 0, complaint.decode()
    assert int(steps) > 20


def test_several_processes_read_and_write_at_once(tmp_path):
    visitors = [start(VISITOR, tmp_path, seed) for seed in range(3)]
    for visitor in visitors:
        _, complaint = visitor.communicate(timeout=60)
        assert visitor.returncode == 0, complaint.decode()
    assert sorted((entry.recipe["channel"], entry.files) for entry in FeatureStore(tmp_path).entries()) == [
        ("mid", 20),
        ("side", 20),
    ]
    assert not list(tmp_path.rglob("*.partial"))


class Failing:
    def __init__(self, stream, number):
        self.stream = stream
        self.number = number

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stream.close()

    def write(self, content):
        self.stream.write(content[:10])
        raise OSError(self.number, os.strerror(self.number))


def fail_to_write(monkeypatch, number):
    real = os.fdopen
    monkeypatch.setattr(os, "fdopen", lambda *given: Failing(real(*given), number))


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize(
    "act",
    [
        lambda store: store.write_features(OTHER, "cd" + DIGEST[2:], *features()),
        lambda store: store.facts(DIGEST, dict),
    ],
    ids=["features", "facts"],
)
def test_full_disk_error_names_the_ways_out(store, monkeypatch, number, act):
    store.write_features(OTHER, DIGEST, *features())
    before = files_below(store.root)
    with monkeypatch.context() as patch:
        fail_to_write(patch, number)
        with pytest.raises(BserkitError) as caught:
            act(store)
    message = str(caught.value)
    assert str(store.root) in message
    assert os.strerror(number) in message
    assert "bserkit cache prune" in message
    assert "--cache DIR" in message
    assert "the same command goes on from there" in message
    assert files_below(store.root) == before
    assert store.read_features(OTHER, DIGEST) is not None


def test_unwritable_folder_error_names_the_way_out(tmp_path):
    (tmp_path / "cache").write_text("a file where a folder should be")
    with pytest.raises(BserkitError, match=r"cannot be written to: .* Choose another folder with --cache DIR"):
        FeatureStore(tmp_path / "cache").write_features(RECIPE, DIGEST, *features())


def test_entries_count_files_and_bytes_last_used_first(store):
    for number in range(3):
        store.write_features(RECIPE, f"{number:064x}", *features())
    store.write_features(OTHER, DIGEST, *features())
    age(store, RECIPE, 5)
    first, second = store.entries()
    assert (first.recipe, first.files, second.recipe, second.files) == (OTHER, 1, RECIPE, 3)
    sizes = [path.stat().st_size for path in second.folder.rglob("*.safetensors")]
    assert second.size == sum(sizes) > 0


def test_pruning_by_age_keeps_what_was_used_since(store):
    store.write_features(RECIPE, DIGEST, *features())
    store.write_features(OTHER, DIGEST, *features())
    size = store.features_path(RECIPE, DIGEST).stat().st_size
    age(store, RECIPE, 10)
    age(store, OTHER, 3)
    assert store.prune(older_than_days=7) == (1, size)
    assert not store.has(RECIPE, DIGEST)
    assert store.has(OTHER, DIGEST)


def test_use_makes_features_young_again(store):
    store.write_features(RECIPE, DIGEST, *features())
    age(store, RECIPE, 10)
    store.touch(RECIPE)
    store.touch(OTHER)
    assert store.prune(older_than_days=7) == (0, 0)
    assert [entry.recipe for entry in store.entries()] == [RECIPE]


def test_pruning_all_removes_features_and_keeps_facts(store):
    store.write_features(RECIPE, DIGEST, *features())
    store.write_features(OTHER, DIGEST, *features())
    store.facts(DIGEST, lambda: {"channels": 2})
    assert store.prune()[0] == 2
    assert list(store.entries()) == []
    assert not list(store.root.rglob("*.safetensors"))
    assert store.facts(DIGEST, lambda: pytest.fail("facts were pruned")) == {"channels": 2}


def test_pruning_spares_live_writers_not_dead_ones(store):
    store.write_features(RECIPE, DIGEST, *features())
    folder = store.features_path(RECIPE, DIGEST).parent
    abandoned, fresh = folder / "old.partial", folder / "new.partial"
    for path in (abandoned, fresh):
        path.write_bytes(b"half")
    os.utime(abandoned, (time.time() - 7200,) * 2)
    store.prune(older_than_days=0.05)
    assert not abandoned.exists()
    assert fresh.exists()


def test_a_file_is_replaced_whole_and_folders_are_made(tmp_path):
    path = tmp_path / "some" / "where" / "a.bin"
    write_whole(path, b"first")
    write_whole(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_a_file_may_be_read_by_whom_the_umask_lets(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_whole(tmp_path / "a.bin", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.bin").stat().st_mode) == 0o666 & ~umask


def test_default_store_is_in_the_user_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    assert default_folder().name == "bserkit"
