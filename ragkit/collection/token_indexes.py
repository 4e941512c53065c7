"""Token indexes of a collection: one a segment, made when they are first searched.

    tokens/<segment>/<layout>/
      manifest.json     the generation it was made of, and the digest of every other file
      places.npy        int64 (rows, 2): each row's row in the segment, and where its text begins
      …                 the files of `ragkit.indexes.token_files`

They follow from the segments and the store, so nothing is lost with them: what is missing, damaged
or of another version is made anew, and what no segment needs goes with the garbage. A folder is
written under another name and renamed, so that two readers may make the same one.

A folder holds the rows that were live in its generation, and serves every later one: what has died
since is masked. A reader that is still in an earlier generation makes its own.
"""

from __future__ import annotations

import json
import logging
import os
import re
import secrets
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ragkit.collection.snapshot import Snapshot
from ragkit.digests import file_digest
from ragkit.durable import make_folder, read_small, remove_folder, sync_path
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.indexes.arrays import map_array
from ragkit.indexes.ngram import NgramIndex, SegmentedNgramIndex
from ragkit.indexes.token_files import FILES
from ragkit.indexes.token_layout import RowHit, TokenLayout
from ragkit.indexes.trie import SegmentedTrie, Trie
from ragkit.store import filters
from ragkit.store.reader import StoreReader
from ragkit.types import Mask, Rows, Where

_log = logging.getLogger(__name__)

_BATCH = 1024  # chunks read at once
_MANIFEST_BYTES = 1 << 14
_KEPT_VIEWS = 4
_OURS = re.compile("[0-9a-f]{32}")
_WRITING = "writing-"
_PLACES = "places.npy"

TokenIndexOf = SegmentedNgramIndex | SegmentedTrie


@dataclass(frozen=True, slots=True, eq=False)
class TokenView:
    """A token index over the live rows of a generation that pass a filter.

    Attributes:
        index: Searches them.
        chunks: int64 (rows,): the number of each row's chunk.
        starts: int64 (rows,): where in its document each row's text begins.
    """

    index: TokenIndexOf
    chunks: Rows
    starts: Rows


class ChunkHit(NamedTuple):
    """A chunk that was found by a row: its number, and the row."""

    chunk: int
    row: RowHit


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """The token index of a segment: what was live in it in a generation."""

    index: NgramIndex | Trie
    places: Rows
    generation: int


class TokenIndexes:
    """The token indexes of one collection.

    Args:
        folder: Where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[tuple[str, str], _Part] = {}
        self._views: dict[tuple[int, str, str], TokenView] = {}
        self._lock = threading.RLock()

    def view(
        self, store: StoreReader, snapshot: Snapshot, layout: TokenLayout, where: Where | None
    ) -> TokenView | None:
        """The index over what is live and allowed; None if the collection holds nothing."""
        passes = "" if where is None else repr(filters.to_sql(where))
        key = (snapshot.generation, layout.name, passes)
        with self._lock:
            found = self._views.get(key)
            if found is None and snapshot.segments:
                found = self._view(store, snapshot, layout, where)
                while len(self._views) >= _KEPT_VIEWS:
                    del self._views[next(iter(self._views))]
                self._views[key] = found
        return found

    def _view(
        self, store: StoreReader, snapshot: Snapshot, layout: TokenLayout, where: Where | None
    ) -> TokenView:
        wanted = {segment.folder.name for segment in snapshot.segments}
        self._parts = {key: part for key, part in self._parts.items() if key[0] in wanted}
        parts, masks, numbers = [], [], []
        allowed = snapshot.allowed(where)
        for i, segment in enumerate(snapshot.segments):
            key = (segment.folder.name, layout.name)
            held = self._parts.get(key)
            if held is None or held.generation > snapshot.generation:
                held = self._parts[key] = self._open(store, snapshot, i, layout)
            part, mask = held, allowed[i]
            owners = part.places[:, 0]
            parts.append(part.index)
            masks.append(np.ones(len(owners), dtype=np.bool_) if mask is None else mask[owners])
            numbers.append(segment.chunks[owners])
        mask_of_all: Mask = np.concatenate(masks)
        index = _as_one(parts)
        restricted = index if mask_of_all.all() else index.restricted(mask_of_all)
        starts = np.concatenate([self._parts[s.folder.name, layout.name].places[:, 1]
                                 for s in snapshot.segments])  # fmt: skip
        return TokenView(restricted, np.concatenate(numbers), starts)

    def _open(self, store: StoreReader, snapshot: Snapshot, i: int, layout: TokenLayout) -> _Part:
        segment = snapshot.segments[i]
        folder = self._folder / segment.folder.name / layout.name
        if folder.is_dir():
            try:
                return _load(folder, layout, len(segment), snapshot.generation)
            except CollectionError as error:
                _log.warning("making a token index anew: %s", error)
        part = _build(store, snapshot, i, layout)
        try:
            _save(part, folder, layout, len(segment))
        except OSError as error:  # a place that cannot be written only costs the time again
            _log.warning("the token index %s is not kept: %s", folder.name, error)
        return part


def best_chunks(
    snapshot: Snapshot, view: TokenView, run: Sequence[RowHit], k: int
) -> list[ChunkHit]:
    """The k best chunks by their best row; ties by chunk id, and within a chunk by row."""
    best: dict[int, RowHit] = {}
    for hit in sorted(run, key=lambda hit: (-hit.score, hit.row)):
        best.setdefault(int(view.chunks[hit.row]), hit)
    ordered = snapshot.order({number: hit.score for number, hit in best.items()}, k)
    return [
        ChunkHit(n, best[n]._replace(score=score, start=int(view.starts[best[n].row])))
        for n, score in ordered
    ]


def _as_one(parts: Sequence[NgramIndex | Trie]) -> TokenIndexOf:
    tries = [part for part in parts if isinstance(part, Trie)]
    if tries:
        return SegmentedTrie(tries)
    return SegmentedNgramIndex([part for part in parts if isinstance(part, NgramIndex)])


def _build(store: StoreReader, snapshot: Snapshot, i: int, layout: TokenLayout) -> _Part:
    """Tokenise the live chunks of a segment."""
    segment, live = snapshot.segments[i], snapshot.live[i]
    alive = np.arange(len(segment)) if live is None else np.flatnonzero(live)
    places: list[tuple[int, int]] = []
    rows: list[Sequence[int]] = []
    for start in range(0, len(alive), _BATCH):
        block = alive[start : start + _BATCH]
        numbers = segment.chunks[block].tolist()
        chunks = store.chunks(numbers)
        used = set(store.first_chunks(numbers) if layout.scope == "document" else numbers)
        for row, number in zip(block.tolist(), numbers, strict=True):
            if number not in used:
                continue
            chunk = chunks[number]
            text = store.text_of(number) if layout.needs_text else chunk.text
            for begins, tokens in layout.tokenize(chunk, text):
                places.append((row, begins))
                rows.append(tokens)
    size, tokenizer = layout.vocab_size, layout.tokenizer
    index: NgramIndex | Trie
    if layout.kind == "trie":
        index = Trie.build(rows, size, max_length=None, tokenizer=tokenizer)
    else:
        unit = layout.granularity
        index = NgramIndex.build(rows, size, tokenizer=tokenizer, granularity=unit)
    found = np.array(places, dtype=np.int64).reshape(-1, 2)
    return _Part(index, found, snapshot.generation)


def _save(part: _Part, folder: Path, layout: TokenLayout, n_rows: int) -> None:
    for above in (folder.parent, folder.parent.parent):
        if above.is_symlink():  # of a collection from elsewhere: it might lead anywhere
            raise OSError(f"{str(above)!r} is a link, and nothing is written through it")
    make_folder(folder.parent)
    temporary = folder.parent / f"{_WRITING}{secrets.token_hex(8)}"
    temporary.mkdir()  # not `mkdtemp`: others who read the collection are to read this as well
    try:
        files = [*part.index.save(temporary), temporary / _PLACES]
        np.save(files[-1], part.places, allow_pickle=False)
        digests = {file.name: file_digest(file) for file in files}
        about = {"generation": part.generation, "files": digests}
        manifest = temporary / "manifest.json"
        manifest.write_text(json.dumps(about, indent=1, sort_keys=True), encoding="utf-8")
        for file in [*files, manifest, temporary]:
            sync_path(file)
        if not _is_whole(folder, layout, n_rows, part.generation):  # else another was first
            remove_folder(folder)
            os.rename(temporary, folder)
            sync_path(folder.parent)
    except CollectionError as error:  # `save` speaks for a collection that would be damaged
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_whole(folder: Path, layout: TokenLayout, n_rows: int, generation: int) -> bool:
    try:
        _load(folder, layout, n_rows, generation)
    except CollectionError:
        return False
    return not token_faults(folder)


def _load(folder: Path, layout: TokenLayout, n_rows: int, generation: int) -> _Part:
    made, _ = _read_manifest(folder)
    if made > generation:
        raise CorruptCollection(
            f"token index {folder.name} is of generation {made}, which is later than {generation}"
        )
    kind = Trie if layout.kind == "trie" else NgramIndex
    index = kind.load(folder, tokenizer=layout.tokenizer)
    try:
        places: Rows = map_array(folder / _PLACES, np.int64, 2)  # type: ignore[assignment]
    except (OSError, ValueError) as error:
        raise CorruptCollection(f"token index {folder.name} cannot be read ({error})") from error
    fits = places.shape == (index.n_rows, 2) and index.vocab_size == layout.vocab_size
    if not fits or (len(places) and not (places.min() >= 0 and places[:, 0].max() < n_rows)):
        raise CorruptCollection(f"token index {folder.name} names rows that the segment lacks")
    return _Part(index, places, made)


def _read_manifest(folder: Path) -> tuple[int, dict[str, str]]:
    """The generation an index was made of, and the digests of its files."""
    try:
        about = json.loads(read_small(folder / "manifest.json", _MANIFEST_BYTES))
        generation, digests = about["generation"], dict(about["files"])
        if type(generation) is not int or digests.keys() != {*FILES, _PLACES}:
            raise ValueError(f"its generation is {generation!r:.60}, its files {sorted(digests)}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCollection(f"token index {folder.name} cannot be read ({error})") from error
    return generation, digests


def token_faults(folder: Path) -> list[str]:
    """What is wrong with one token index, one line a fault; reads every byte."""
    try:
        _, digests = _read_manifest(folder)
    except CorruptCollection as error:
        return [str(error)]
    faults = []
    for name, digest in sorted(digests.items()):
        file = folder / name
        try:  # a pipe or device is not read: that might never end
            matches = file.is_file() and not file.is_symlink() and file_digest(file) == digest
        except OSError as error:
            faults.append(f"token index {folder.name}: {name} cannot be read ({error})")
            continue
        if not matches:
            faults.append(f"token index {folder.name}: {name} does not match its digest")
    return faults


def faulty_token_indexes(folder: Path) -> list[tuple[Path, str]]:
    """The token indexes of a collection that are damaged, and what is wrong with each.

    A link is a fault itself: what lies behind it is another's, and not to be removed.
    """
    found = []
    for segment in _of_segments(folder):
        if segment.is_symlink():
            found.append((segment, f"token indexes {segment.name} are a link"))
            continue
        for index in sorted(segment.glob("*")):
            if not index.name.startswith(_WRITING):
                found += [(index, fault) for fault in token_faults(index)]
    return found


def remove_unneeded(folder: Path, segments: set[str]) -> None:
    """Remove the folders of segments that are no more, and what killed readers have left.

    A reader that is just writing loses its folder, and does without.
    """
    for path in _unneeded(folder, segments):
        try:
            remove_folder(path)
        except OSError as error:  # a reader may be writing there: the next garbage takes it
            _log.warning("%s cannot be removed: %s", path, error)


def _unneeded(folder: Path, segments: set[str]) -> list[Path]:
    every = _of_segments(folder)
    gone = [path for path in every if path.name not in segments]
    own = [path for path in every if path not in gone and not path.is_symlink()]
    return gone + sorted(left for path in own for left in path.glob(f"{_WRITING}*"))


def _of_segments(folder: Path) -> list[Path]:
    """What has the name of a segment; nothing where the folder is a link, perhaps to another's."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _OURS.fullmatch(path.name))
