"""Readers of corpora: what must hold of them, without a corpus and with one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bserkit.corpora.reading import CorpusReader, read_corpus
from bserkit.errors import UsageError
from bserkit.identity.content import content_name
from bserkit.testing.behaviour import Kind
from bserkit.testing.expecting import expect, expect_same
from bserkit.testing.samples import sample_stereo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def claims_no_folder_of_others(reader: CorpusReader) -> None:
    """It recognises neither an empty folder nor one with a recording of another name, and counts what fits there."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        _claims_nothing(reader, root, "an empty folder")
        _recording(root / "notes and sounds" / "untitled.wav")
        _claims_nothing(reader, root, "a folder with one recording, 'notes and sounds/untitled.wav'")


def refuses_what_it_cannot_read(reader: CorpusReader) -> None:
    """Of an empty folder it says in a UsageError what it expects, or returns that it found nothing."""
    with tempfile.TemporaryDirectory() as name:
        try:
            table = reader.read(Path(name).resolve())
        except UsageError:
            return
        expect(
            not table.utterances,
            f"corpus {reader.name} found {len(table.utterances)} utterances in an empty folder; expected a UsageError "
            "that says what the layout is.",
        )


def reads_the_same_twice(reader: CorpusReader, data: Path) -> None:
    """It reads a corpus twice alike."""
    expect_same(_read(reader, data), _read(reader, data), f"corpus {reader.name} read {data} twice in two ways.")


def names_labels_and_speakers(reader: CorpusReader, data: Path) -> None:
    """Every utterance is a file that is there, with a label, and ends after it begins; there are two classes."""
    corpus = read_corpus(data, reader)
    for one in corpus.utterances:
        flaw = (
            "has no label" if not one.label else
            "is not there" if not one.path.is_file() else
            "ends before it begins" if one.start < 0 or (one.end is not None and one.end <= one.start) else ""
        )  # fmt: skip
        expect(not flaw, f"corpus {reader.name} gives {one}, which {flaw}.")
    expect(
        len(corpus.labels) > 1,
        f"corpus {reader.name} finds one class in {data}, {', '.join(corpus.labels)}; expected two or more.",
    )


def writes_nothing_into_a_corpus(reader: CorpusReader, data: Path) -> None:
    """Reading leaves the corpus's folder as it was."""
    folder = data if data.is_dir() else data.parent
    before = content_name(folder)
    reader.recognises(data)
    _read(reader, data)
    expect(content_name(folder) == before, f"corpus {reader.name} changed files in {folder} while it read them.")


def counts_what_it_reads(reader: CorpusReader, data: Path) -> None:
    """``matches`` counts no more files that fit than there are."""
    fit, of = reader.matches(data.resolve())
    expect(0 <= fit <= of, f"corpus {reader.name} says that {fit} of {of} files in {data} are its own.")


def _claims_nothing(reader: CorpusReader, root: Path, what: str) -> None:
    claimed, (fit, of) = reader.recognises(root), reader.matches(root)
    expect(
        not claimed,
        f"corpus {reader.name} recognises {what}, so that no other reader is ever found. Let recognises() look for "
        "what this layout alone has.",
    )
    expect(0 <= fit <= of, f"corpus {reader.name} says that {fit} of {of} files in {what} are its own.")


def _recording(path: Path) -> None:
    import soundfile

    path.parent.mkdir(parents=True)
    soundfile.write(path, sample_stereo(seconds=0.1).T.numpy(), 16000)


def _read(reader: CorpusReader, data: Path) -> Any:
    corpus = read_corpus(data, reader)
    return [str(one) for one in corpus.utterances], [str(one) for one in corpus.skipped]


def _given(reader: CorpusReader, seed: int) -> Path:
    return Path(__file__).parent.resolve()


def _made(reader: CorpusReader, given: Path) -> Any:
    """Look at a folder that holds no recording."""
    return reader.recognises(given), reader.matches(given)


def _checks(reader: CorpusReader) -> Iterator[Callable[[CorpusReader], None]]:
    yield claims_no_folder_of_others
    yield refuses_what_it_cannot_read


KIND = Kind(CorpusReader, _given, _made, _checks, threads=lambda _: False)
#: What must hold of a reader with a corpus that it reads.
WITH_DATA: tuple[Callable[[CorpusReader, Path], None], ...] = (
    reads_the_same_twice,
    names_labels_and_speakers,
    writes_nothing_into_a_corpus,
    counts_what_it_reads,
)
