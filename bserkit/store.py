"""The feature store: what was computed once is kept under the name of everything that it depends on.

One folder a recipe, one safetensors file an utterance and channel; one folder a fine-tuned network. Files are written
beside their place and renamed into it, so that a reader in any process sees a whole file or none, whenever a writer is
killed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any

import numpy as np

from bserkit.errors import BserkitError

#: The layout of the store; a change of it leaves what older versions kept unread.
FORMAT = 1
#: Features of one utterance and channel that are held in memory while they are made, bytes.
_HELD_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """One recipe's share of the store."""

    folder: Path
    recipe: Mapping[str, Any]
    files: int
    size: int
    used: float

    def described(self) -> str:
        """Say what was computed: the channel, the frontend, the backbone and its weights, the precision."""
        if not self.recipe:
            return "made by what is no longer known"
        names = [self.recipe[stage]["name"] for stage in ("frontend", "backbone")]
        words = [self.recipe["channel"], *names, self.recipe["weights"][:24], self.recipe["precision"]]
        words += [f"fine-tuned without {self.recipe['fold']}"] if "finetune" in self.recipe else []
        return ", ".join(words)


class FeatureStore:
    """Segment features and audio facts in a folder, by content."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def features_path(self, recipe: Mapping[str, Any], digest: str) -> Path:
        """Return where the features of one utterance and channel lie, or will."""
        return self._folder(recipe) / digest[:2] / f"{digest}.safetensors"

    def read_features(self, recipe: Mapping[str, Any], digest: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return ``(segment, feature)`` and ``(segment, 2)`` times in seconds, or None where they are not kept."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.features_path(recipe, digest)
        try:
            kept = load_file(path)
            return kept["features"], kept["times"]
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError):
            # Only a failing disk or another program leaves such a file: it is computed anew.
            path.unlink(missing_ok=True)
            return None

    def write_features(
        self, recipe: Mapping[str, Any], digest: str, features: np.ndarray | Rows, times: np.ndarray
    ) -> None:
        """Keep the features of one utterance and channel.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        self._describe(recipe)
        self.write(self.features_path(recipe, digest), _safetensors(features, times))

    def rows(self) -> Rows:
        """Return what gathers the features of one utterance and channel while they are made."""
        with self.writing():
            self.root.mkdir(parents=True, exist_ok=True)
        return Rows(SpooledTemporaryFile(_HELD_BYTES, dir=str(self.root)))

    def has(self, recipe: Mapping[str, Any], digest: str) -> bool:
        """Say whether the features of one utterance and channel are kept."""
        return self.features_path(recipe, digest).exists()

    def touch(self, recipe: Mapping[str, Any]) -> None:
        """Note that a recipe was used, for pruning by age."""
        note = self._folder(recipe) / "recipe.json"
        if note.exists():
            note.touch()

    def facts(
        self,
        digest: str,
        find_out: Callable[[], dict[str, Any]],
        kind: str = "",
        usable: Callable[[dict[str, Any]], bool] = lambda _: True,
    ) -> dict[str, Any]:
        """Return the usable facts of a kind kept about one utterance's audio, finding them out where there are none."""
        facts = self.known_facts(digest, kind)
        if facts is None or not usable(facts):
            facts = find_out()
            self.write(self._facts_path(digest, kind), json.dumps(facts).encode())
        return facts

    def known_facts(self, digest: str, kind: str = "") -> dict[str, Any] | None:
        """Return the facts of a kind kept about one utterance's audio, or None where there are none."""
        try:
            facts: dict[str, Any] = json.loads(self._facts_path(digest, kind).read_bytes())
        except (OSError, ValueError):
            return None
        return facts

    def _facts_path(self, digest: str, kind: str) -> Path:
        return self.root / f"audio-{FORMAT}" / digest[:2] / f"{'.'.join(filter(None, (digest, kind)))}.json"

    def entries(self) -> Iterator[Entry]:
        """Yield what is kept, a recipe or a fine-tuned network at a time, the most recently used first."""
        found = []
        for note in self.root.glob(f"*-{FORMAT}/*/recipe.json"):
            sizes = [path.stat().st_size for path in note.parent.rglob("*.safetensors")]
            try:
                recipe = json.loads(note.read_bytes())
            except ValueError:
                recipe = {}
            found.append(Entry(note.parent, recipe, len(sizes), sum(sizes), note.stat().st_mtime))
        yield from sorted(found, key=lambda entry: -entry.used)

    def prune(self, older_than_days: float = 0.0) -> tuple[int, int]:
        """Delete what was not used for so long, a recipe at a time; return how many files and bytes that freed."""
        limit = time.time() - 86400 * older_than_days
        files = size = 0
        for entry in list(self.entries()):
            if entry.used <= limit:
                shutil.rmtree(entry.folder, ignore_errors=True)
                files, size = files + entry.files, size + entry.size
        for left_over in self.root.rglob("*.partial"):
            if left_over.stat().st_mtime <= min(limit, time.time() - 3600):
                left_over.unlink(missing_ok=True)
        return files, size

    def open_training(self, identity: Mapping[str, Any]) -> Path:
        """Return the folder of a network's fine-tuning, by everything that it depends on, noting that it is used."""
        folder = self.training_folder(identity)
        note = folder / "recipe.json"
        if note.exists():
            note.touch()
        else:
            self.write(note, json.dumps(identity, sort_keys=True, indent=1).encode())
        return folder

    def training_folder(self, identity: Mapping[str, Any]) -> Path:
        """Return where a network's fine-tuning lies, or will."""
        return self.root / f"finetune-{FORMAT}" / _name(identity)

    def _folder(self, recipe: Mapping[str, Any]) -> Path:
        return self.root / f"features-{FORMAT}" / _name(recipe)

    def _describe(self, recipe: Mapping[str, Any]) -> None:
        note = self._folder(recipe) / "recipe.json"
        if not note.exists():
            self.write(note, json.dumps(recipe, sort_keys=True, indent=1).encode())

    def write(self, path: Path, content: bytes | Iterable[bytes]) -> None:
        """Write a file of the store so that it is there whole or not at all.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        with self.writing():
            write_whole(path, content)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say what to do where the disk is full or the folder cannot be written to."""
        try:
            yield
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            raise BserkitError(
                f"The feature store {self.root} cannot be written to: {error.strerror}. "
                + ("Make room (bserkit cache prune) or choose" if full else "Choose")
                + " another folder with --cache DIR. What is kept stays kept; the same command goes on from there."
            ) from None


class Rows:
    """``(row, column)`` of 32-bit floats while they are made: in memory while few, in a nameless file when many.

    Attributes:
        largest: the largest size of a value.
        dtype: what they are read back as.
    """

    def __init__(self, kept: SpooledTemporaryFile[bytes]) -> None:
        self._kept = kept
        self.shape = (0, 0)
        self.largest = 0.0
        self.dtype = np.dtype(np.float32)

    def add(self, rows: np.ndarray) -> None:
        """Add rows below those that there are."""
        self.shape = (self.shape[0] + len(rows), rows.shape[1])
        self.largest = max(self.largest, float(np.abs(rows).max(initial=0.0)))
        self._kept.write(np.ascontiguousarray(rows, dtype=np.float32).data)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all of them, some at a time."""
        self._kept.seek(0)
        while block := self._kept.read(_HELD_BYTES):
            yield np.frombuffer(block, np.float32).astype(self.dtype, copy=False)

    def close(self) -> None:
        """Let them go."""
        self._kept.close()


def write_whole(path: Path, content: bytes | Iterable[bytes]) -> None:
    """Write a file, whole or in pieces, so that it is there whole or not at all, whenever the process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in [content] if isinstance(content, bytes) else content:
                stream.write(piece)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _safetensors(features: np.ndarray | Rows, times: np.ndarray) -> Iterator[bytes]:
    """Yield the content of a safetensors file: the header's length, the header, and the tensors one after the other."""
    header: dict[str, Any] = {}
    end = 0
    for name, tensor in (("times", times), ("features", features)):
        begin, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        kind = f"F{8 * tensor.dtype.itemsize}"
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    yield len(text).to_bytes(8, "little") + text
    yield times.tobytes()
    if isinstance(features, Rows):
        yield from (block.tobytes() for block in features.blocks())
    else:
        yield features.tobytes()


def _name(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:20]


def default_folder() -> Path:
    """Return where features are kept where nothing else is asked for: the user's own cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("bserkit")
