"""Export: features with their metadata in one Parquet file, which pandas, polars and DuckDB read."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bserkit.errors import BserkitError, UsageError
from bserkit.experiments.run import checked_corpus
from bserkit.features.contracts import pooled
from bserkit.features.extraction import extract, from_features, pending
from bserkit.features.pooling import LearningPooler
from bserkit.progress import Unstaged

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bserkit.corpora.checking import Checked
    from bserkit.experiments.settings import Settings
    from bserkit.features.extraction import Extraction
    from bserkit.features.pooling import Pooler
    from bserkit.workspace import Workspace

#: Utterances that are held in memory at once, and how much sound, seconds; of one that is longer, itself alone.
_ROW_GROUP, _GROUP_SECONDS = 64, 600.0


def export(out: Path, settings: Settings, pooler: Pooler | None, workspace: Workspace) -> tuple[int, int]:
    """Write one row a segment or frame and channel, or one an utterance and channel where a pooler is given.

    Returns the numbers of rows and of utterances. What the store does not keep yet is computed first.

    Columns: utterance, label, speaker, session, split, channel, segment (or frame, from 0), start and end (seconds from
    the utterance's start; the whole of it where pooled), feature (a list of fixed length). The recipe stands in the
    file's metadata under ``bserkit``. The file appears when it is whole.

    Raises:
        UsageError: the settings ask for fine-tuning, or the pooler learns.
        BserkitError: the file cannot be written, or features cannot be computed or do not stay in the store.
    """
    if settings.finetune:
        raise UsageError(
            "extract writes features of one backbone, but fine-tuning makes one a fold and channel. Leave finetune out "
            "of the configuration file, and name the network to use with --backbone NAME:weights=PATH."
        )
    if isinstance(pooler, LearningPooler):
        raise UsageError(
            f"extract pools without folds, but pooler {pooler.name} learns from the training utterances of each. "
            "Choose one that does not, such as block-max, or leave --pooler out and pool what is written."
        )
    # Weights that cannot be had are found out before any audio is read.
    settings.extraction.recipes()
    checked = checked_corpus(settings, workspace)
    for one in checked.corpus.skipped:
        workspace.reporter.say(f"Left out: {one.item}: {one.reason}")
    for note in checked.notes:
        workspace.reporter.say(f"Note: {note}.")
    extract(pending(checked.corpus.utterances, checked.digests, settings.extraction, workspace.store), workspace)
    return _write(out, settings.extraction, checked, pooler, workspace), len(checked.corpus.utterances)


def _write(out: Path, extraction: Extraction, checked: Checked, pooler: Pooler | None, workspace: Workspace) -> int:
    """Write what the store keeps and return the number of rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    recipes = extraction.recipes()
    described = {channel: recipe | {"pooler": pooler.spec if pooler else None} for channel, recipe in recipes.items()}
    partial = out.with_name(f".{out.name}.{os.getpid()}.partial")
    utterances, items = checked.corpus.utterances, checked.corpus.items
    inside = workspace.telling(Unstaged(workspace.reporter))
    rows, writer = 0, None
    try:
        with workspace.reporter.stage("Writing", len(utterances), "utterances") as advance:
            for group in _groups([one.seconds for one in checked.facts]):
                columns: dict[str, list[Any]] = {
                    name: [] for name in ("utterance", "label", "speaker", "session", "split")
                }
                columns |= {name: [] for name in ("channel", "segment", "start", "end")}
                blocks = []
                kept = from_features(
                    utterances[group.start : group.stop],
                    checked.digests[group.start : group.stop],
                    extraction,
                    inside,
                    lambda _, __, features, times: (features.astype(np.float32, copy=False), times),
                )
                for index, of_channels in zip(group, kept, strict=True):
                    for channel, (features, times) in zip(recipes, of_channels, strict=True):
                        if pooler:
                            features = pooled(pooler, features, f"channel {channel} of {items[index]}")[np.newaxis]
                            times = np.array([[0.0, checked.facts[index].seconds]])
                        utterance, count = utterances[index], len(features)
                        for name in ("label", "speaker", "session", "split"):
                            columns[name] += [getattr(utterance, name)] * count
                        columns["utterance"] += [items[index]] * count
                        columns["channel"] += [channel] * count
                        columns["segment"] += range(count)
                        columns["start"] += times[:, 0].tolist()
                        columns["end"] += times[:, 1].tolist()
                        blocks.append(np.asarray(features, dtype=np.float32))
                together = np.concatenate(blocks)
                feature = pa.FixedSizeListArray.from_arrays(pa.array(together.ravel()), together.shape[1])
                table = pa.table({**columns, "feature": feature})
                if writer is None:
                    schema = table.schema.with_metadata({"bserkit": json.dumps(described)})
                    writer = pq.ParquetWriter(partial, schema, compression="zstd")
                writer.write_table(table.cast(writer.schema))
                rows += len(together)
                advance(len(group))
        if writer:
            writer.close()
        partial.replace(out)
    except OSError as error:
        raise BserkitError(f"{out} cannot be written: {error.strerror or error}.") from None
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _groups(seconds: Sequence[float]) -> Iterator[range]:
    """Yield successive utterances, given how long each is, that are held in memory at once."""
    start, held = 0, 0.0
    for index, long in enumerate(seconds):
        if index > start and (index - start == _ROW_GROUP or held + long > _GROUP_SECONDS):
            yield range(start, index)
            start, held = index, 0.0
        held += long
    yield range(start, len(seconds))


def check_writable(out: Path) -> None:
    """Find out before any work whether a file can be written.

    Raises:
        UsageError: it cannot; the message says why.
    """
    if not out.parent.is_dir():
        raise UsageError(f"{out} cannot be written: there is no folder {out.parent}.")
    if out.is_dir() or not os.access(out.parent, os.W_OK):
        raise UsageError(f"{out} cannot be written: {'it is a folder' if out.is_dir() else 'its folder is read-only'}.")
