"""The feature store: what was computed once is kept under the name of everything that it depends on.

One folder a recipe, one safetensors file an utterance and channel; one folder a fine-tuned network. Files are written
beside their place and renamed into it, so that a reader in any process sees a whole file or none, whenever a writer is
killed. Every file carries a digest of its content and of its place in the store, which is proven when it is read: what
a disk or another program did to it counts as missing, and is told.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shlex
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar

import numpy as np

from bserkit.errors import BserkitError
from bserkit.text import counted

#: The layout of the store; a change of it leaves what older versions kept unread.
FORMAT = 2
#: Features of one utterance and channel that are held in memory while they are made, bytes.
_HELD_BYTES = 1 << 20
#: What is kept of each kind: segment features, fine-tuned networks, facts about recordings.
_KINDS = ("features", "finetune", "audio")

_Kept = TypeVar("_Kept")


@dataclass(frozen=True)
class Entry:
    """One recipe's share of the store, or all facts that an earlier version kept.

    Attributes:
        format: the layout that it is kept in; only ``FORMAT`` is read.
        used: when it was last used, seconds since 1970.
    """

    folder: Path
    recipe: Mapping[str, Any]
    files: int
    size: int
    used: float
    format: int = FORMAT

    def described(self) -> str:
        """Say what was computed: the channel, the frontend, the backbone and its weights, the precision."""
        if self.format != FORMAT:
            return f"{self.folder.name}: of format {self.format}, which this version does not read"
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
        self._damaged: list[Path] = []

    def features_path(self, recipe: Mapping[str, Any], digest: str) -> Path:
        """Return where the features of one utterance and channel lie, or will."""
        return self._folder(recipe) / digest[:2] / f"{digest}.safetensors"

    def read_features(self, recipe: Mapping[str, Any], digest: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Return ``(vector, feature)`` and ``(vector, 2)`` times in seconds, or None where they are not kept.

        They come in the order of their starts. Both are the caller's own. A damaged file is deleted: it is not kept.
        """

        def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
            header, data = self._proven(path, np.fromfile(path, np.uint8))
            return _in_time(_array(header["features"], data), _array(header["times"], data))

        return self._read(self.features_path(recipe, digest), read)

    def write_features(
        self, recipe: Mapping[str, Any], digest: str, features: np.ndarray | Rows, times: np.ndarray
    ) -> None:
        """Keep the features of one utterance and channel.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        self._describe(self._folder(recipe), recipe)
        header: dict[str, Any] = {}
        end = 0
        for name, tensor in (("times", times), ("features", features)):
            begin, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
            kind = f"F{8 * tensor.dtype.itemsize}"
            header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [begin, end]}

        def data() -> Iterator[bytes]:
            yield times.tobytes()
            blocks = features.blocks() if isinstance(features, Rows) else [features]
            yield from (block.tobytes() for block in blocks)

        path = self.features_path(recipe, digest)
        self.write(path, self._safetensors(path, header, data))

    def rows(self) -> Rows:
        """Return what gathers the features of one utterance and channel while they are made."""
        with self.writing():
            self.root.mkdir(parents=True, exist_ok=True)
        return Rows(SpooledTemporaryFile(_HELD_BYTES, dir=str(self.root)))

    def has(self, recipe: Mapping[str, Any], digest: str) -> bool:
        """Say whether there is a file of the features of one utterance and channel; reading it shows what it is."""
        return self.features_path(recipe, digest).exists()

    def touch(self, recipe: Mapping[str, Any]) -> None:
        """Note that a recipe was used, for pruning by age."""
        if (folder := self._folder(recipe)).exists():
            self._describe(folder, recipe)
            (folder / "recipe.json").touch()

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
            self.write_json(self._facts_path(digest, kind), facts)
        return facts

    def known_facts(self, digest: str, kind: str = "") -> dict[str, Any] | None:
        """Return the facts of a kind kept about one utterance's audio, or None where there are none."""
        facts: dict[str, Any] | None = self.read_json(self._facts_path(digest, kind))
        return facts

    def write_json(self, path: Path, facts: Any) -> None:
        """Keep plain values.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        self.write(path, json.dumps({"facts": facts, "proof": self._proof(path, facts)}).encode())

    def read_json(self, path: Path) -> Any:
        """Return what ``write_json`` kept, or None where there is nothing; a damaged file is deleted."""

        def read(path: Path) -> Any:
            kept = json.loads(path.read_bytes())
            facts = kept["facts"]
            if kept["proof"] != self._proof(path, facts):
                raise ValueError("the proof does not fit")
            return facts

        return self._read(path, read)

    def _facts_path(self, digest: str, kind: str) -> Path:
        return self.root / f"audio-{FORMAT}" / digest[:2] / f"{'.'.join(filter(None, (digest, kind)))}.json"

    def write_network(self, path: Path, content: bytes, notes: Mapping[str, str]) -> None:
        """Keep a safetensors file with notes in its metadata, so that it is there after a power cut too.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin]) | {"__metadata__": dict(notes)}
        data = memoryview(content)[begin:]
        self.write(path, self._safetensors(path, header, lambda: [data]), lasting=True)

    def read_notes(self, path: Path) -> dict[str, str] | None:
        """Return what ``write_network`` noted in a file whose whole content is proven; None where there is none.

        A damaged file is deleted.
        """

        def read(path: Path) -> dict[str, str]:
            header, _ = self._proven(path, np.memmap(path, np.uint8, "r"))
            notes: dict[str, str] = header["__metadata__"]
            return notes

        return self._read(path, read)

    def tell_damage(self, say: Callable[[str], None]) -> None:
        """Tell what was found damaged since this was last asked for."""
        found, self._damaged = self._damaged, []
        if found:
            say(
                f"{counted(len(found), 'file')} of the feature store {self.root} "
                f"{'was' if len(found) == 1 else 'were'} damaged and counted as missing; what is needed of them is "
                f"computed anew. {'It was' if len(found) == 1 else 'The first was'} {found[0].relative_to(self.root)}."
            )

    def tell_old_formats(self, say: Callable[[str], None]) -> None:
        """Tell that there is something which an earlier version kept."""
        if old := sorted({number for _, number in self._folders() if number < FORMAT}):
            say(
                f"The feature store {self.root} holds what an earlier version kept in format "
                f"{', '.join(map(str, old))}; this version reads format {FORMAT} alone and computes anew. To free the "
                f"room: bserkit cache --cache {shlex.quote(str(self.root))} prune --old-formats"
            )

    def entries(self) -> Iterator[Entry]:
        """Yield what is kept, a recipe or a fine-tuned network at a time, the most recently used first."""
        found = []
        for folder, number in self._folders():
            if folder.name.startswith("audio-"):
                # Facts are small and never pruned, but for those that nobody reads any more.
                kept = [folder] if number != FORMAT else []
            else:
                kept = [one for one in folder.iterdir() if one.is_dir()]
            found += [_entry(one, number) for one in kept]
        yield from sorted(found, key=lambda entry: -entry.used)

    def prune(self, older_than_days: float = 0.0, old_formats_alone: bool = False) -> tuple[int, int]:
        """Delete what was not used for so long, a recipe at a time; return how many files and bytes that freed.

        Args:
            old_formats_alone: delete nothing but what earlier versions kept.
        """
        limit = time.time() - 86400 * older_than_days
        files = size = 0
        for entry in list(self.entries()):
            if entry.used <= limit and (entry.format < FORMAT or not old_formats_alone):
                shutil.rmtree(entry.folder, ignore_errors=True)
                files, size = files + entry.files, size + entry.size
        for folder, number in self._folders():
            if number != FORMAT and not any(folder.iterdir()):
                folder.rmdir()
        for left_over in self.root.rglob("*.partial"):
            if left_over.stat().st_mtime <= min(limit, time.time() - 3600):
                left_over.unlink(missing_ok=True)
        return files, size

    def _folders(self) -> list[tuple[Path, int]]:
        """Return the folders of every kind and format, and the format."""
        found = []
        for kind in _KINDS:
            for folder in sorted(self.root.glob(f"{kind}-*")):
                number = folder.name.rpartition("-")[2]
                if number.isdecimal() and folder.is_dir():
                    found.append((folder, int(number)))
        return found

    def open_training(self, identity: Mapping[str, Any]) -> Path:
        """Return the folder of a network's fine-tuning, by everything that it depends on, noting that it is used."""
        folder = self.training_folder(identity)
        self._describe(folder, identity)
        (folder / "recipe.json").touch()
        return folder

    def training_folder(self, identity: Mapping[str, Any]) -> Path:
        """Return where a network's fine-tuning lies, or will."""
        return self.root / f"finetune-{FORMAT}" / _name(identity)

    def _folder(self, recipe: Mapping[str, Any]) -> Path:
        return self.root / f"features-{FORMAT}" / _name(recipe)

    def _describe(self, folder: Path, recipe: Mapping[str, Any]) -> None:
        """Say beside what is kept what it was made by, in words; a note that says something else is replaced."""
        words = json.dumps(recipe, sort_keys=True, indent=1).encode()
        note = folder / "recipe.json"
        try:
            if note.read_bytes() == words:
                return
            self._damaged.append(note)
        except OSError:
            pass
        self.write(note, words)

    def write(self, path: Path, content: bytes | Iterable[bytes | memoryview], lasting: bool = False) -> None:
        """Write a file of the store so that it is there whole or not at all.

        Args:
            lasting: wait until the disk has it.

        Raises:
            BserkitError: the disk is full or the folder cannot be written to.
        """
        with self.writing():
            write_whole(path, content, lasting)

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

    def _read(self, path: Path, read: Callable[[Path], _Kept]) -> _Kept | None:
        """Return what a file holds; None where there is none, or it was damaged and is now deleted."""
        try:
            return read(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        except OSError as error:
            # A disk that cannot read a block has lost it; anything else, such as a missing right, is no damage.
            if error.errno != errno.EIO:
                raise BserkitError(
                    f"{path} in the feature store cannot be read: {error.strerror}. Choose another folder with "
                    "--cache DIR."
                ) from None
        self._damaged.append(path)
        with self.writing():
            path.unlink(missing_ok=True)
        return None

    def _proof(self, path: Path, words: object, data: Iterable[Any] = ()) -> str:
        """Digest a file's content together with its place, so that no file can stand for another."""
        place = path.relative_to(self.root).as_posix()
        whole = hashlib.sha256(json.dumps([place, words], sort_keys=True).encode())
        for piece in data:
            whole.update(piece)
        return whole.hexdigest()

    def _safetensors(
        self, path: Path, header: dict[str, Any], data: Callable[[], Iterable[bytes | memoryview]]
    ) -> Iterator[bytes | memoryview]:
        """Yield a safetensors file: the header's length, the header with the proof, the tensors one after the other."""
        notes = header.get("__metadata__", {})
        proof = self._proof(path, header | {"__metadata__": notes}, data())
        text = json.dumps(header | {"__metadata__": notes | {"proof": proof}}, sort_keys=True).encode()
        text += b" " * (-len(text) % 8)
        yield len(text).to_bytes(8, "little") + text
        yield from data()

    def _proven(self, path: Path, content: np.ndarray) -> tuple[dict[str, Any], np.ndarray]:
        """Return the header and the tensors' bytes of a safetensors file.

        Raises:
            ValueError, KeyError, TypeError, RecursionError: it is not what was written to this place.
        """
        begin = 8 + int.from_bytes(content[:8].tobytes(), "little")
        if len(content) < begin:
            raise ValueError("it is cut")
        header = json.loads(content[8:begin].tobytes())
        data = content[begin:]
        proof = header["__metadata__"].pop("proof")
        if proof != self._proof(path, header, [data.data]):
            raise ValueError("the proof does not fit")
        return header, data


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


def write_whole(path: Path, content: bytes | Iterable[bytes | memoryview], lasting: bool = False) -> None:
    """Write a file, whole or in pieces, so that it is there whole or not at all, whenever the process is killed.

    Args:
        lasting: wait until the disk has the file and its name, so that a power cut takes neither.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    handle = os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        with os.fdopen(handle, "wb") as stream:
            for piece in [content] if isinstance(content, bytes) else content:
                stream.write(piece)
            if lasting:
                stream.flush()
                os.fsync(stream.fileno())
        partial.replace(path)
        if lasting and os.name == "posix":
            folder = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _array(tensor: Mapping[str, Any], data: np.ndarray) -> np.ndarray:
    begin, end = tensor["data_offsets"]
    found: np.ndarray = data[begin:end].view(f"<f{int(tensor['dtype'][1:]) // 8}").reshape(tensor["shape"])
    return found


def _in_time(features: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return vectors by their starts: frames of segments that overlap were made a segment after the other."""
    if (np.diff(times[:, 0]) >= 0).all():
        return features, times
    order = np.argsort(times[:, 0], kind="stable")
    return features[order], times[order]


def _entry(folder: Path, number: int) -> Entry:
    """Gather what one folder holds."""
    paths = [path for path in folder.rglob("*.safetensors" if number == FORMAT else "*") if path.is_file()]
    note = folder / "recipe.json"
    try:
        recipe = json.loads(note.read_bytes())
        # A folder's name says what its note must hold.
        known = number != FORMAT or _name(recipe) == folder.name
    except (OSError, ValueError):
        known = False
    return Entry(
        folder,
        recipe if known else {},
        len(paths),
        sum(path.stat().st_size for path in paths),
        (note if note.exists() else folder).stat().st_mtime,
        number,
    )


def _name(recipe: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:20]


def default_folder() -> Path:
    """Return where features are kept where nothing else is asked for: the user's own cache folder."""
    from platformdirs import user_cache_path

    return user_cache_path("bserkit")
