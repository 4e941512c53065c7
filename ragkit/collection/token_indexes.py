"""Token indexes of a collection: one per segment, built by the first search that needs it.

    tokens/<segment>/<layout>/
      manifest.json     generation the index was built from, and digests of all other files
      places.npy        int64 (rows, 2): row of the segment, and offset of the row's text
      …                 files of `ragkit.indexes.token_files`

Token indexes are a cache, derived from segments and store: a missing or damaged index, or one of
another version, is rebuilt, and garbage collection removes those without a segment. An index is
written to a temporary folder, which is then renamed, so that several readers can build the same
one.

An index contains the rows that were live in its generation. It serves every later generation, which
masks the rows deleted since. A reader of an earlier generation builds its own index in memory.
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

import numpy as np

from ragkit.collection.snapshot import Snapshot
from ragkit.digests import file_digest
from ragkit.durable import make_folder, read_small, remove_folder, sync_path
from ragkit.errors import CollectionError, CorruptCollection
from ragkit.forks import ForkSafeLock
from ragkit.indexes.arrays import map_array
from ragkit.indexes.ngram import NgramIndex, SegmentedNgramIndex
from ragkit.indexes.token_files import FILES
from ragkit.indexes.token_layout import TokenLayout
from ragkit.indexes.trie import SegmentedTrie, Trie
from ragkit.store import filters
from ragkit.store.reader import StoreReader
from ragkit.types import Mask, Rows, Where

_log = logging.getLogger(__name__)

_BATCH = 1024  # chunks read at once
_MANIFEST_BYTES = 1 << 14
_CACHED_VIEWS = 4
_SEGMENT_NAME = re.compile("[0-9a-f]{32}")
_TEMPORARY_PREFIX = "writing-"
_PLACES_FILE = "places.npy"

TokenIndexOf = SegmentedNgramIndex | SegmentedTrie


@dataclass(frozen=True, slots=True, eq=False)
class TokenView:
    """A token index over the live rows of a generation that pass a filter.

    Attributes:
        index: Index of the rows.
        chunks: int64 (rows,): number of each row's chunk.
        starts: int64 (rows,): character offset of each row's text in its document.
    """

    index: TokenIndexOf
    chunks: Rows
    starts: Rows


@dataclass(frozen=True, slots=True, eq=False)
class _SegmentIndex:
    """Token index of the rows of a segment that were live in a generation.

    `places` is int64 (rows, 2), see the module's description of `places.npy`.
    """

    index: NgramIndex | Trie
    places: Rows
    generation: int


class TokenIndexes:
    """Token indexes of a collection, cached in memory and on disk.

    Args:
        folder: Folder of the indexes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[tuple[str, str], _SegmentIndex] = {}
        self._views: dict[tuple[int, str, str], TokenView] = {}
        self._lock = ForkSafeLock(threading.RLock)

    def view(
        self, store: StoreReader, snapshot: Snapshot, layout: TokenLayout, where: Where | None
    ) -> TokenView | None:
        """Return the index over the live rows that pass the filter; None without segments."""
        filter_key = "" if where is None else repr(filters.to_sql(where))
        key = (snapshot.generation, layout.name, filter_key)
        with self._lock:
            view = self._views.get(key)
            if view is None and snapshot.segments:
                view = self._view(store, snapshot, layout, where)
                while len(self._views) >= _CACHED_VIEWS:
                    del self._views[next(iter(self._views))]
                self._views[key] = view
        return view

    def _view(
        self, store: StoreReader, snapshot: Snapshot, layout: TokenLayout, where: Where | None
    ) -> TokenView:
        names = {segment.folder.name for segment in snapshot.segments}
        self._parts = {key: part for key, part in self._parts.items() if key[0] in names}
        parts, masks, numbers = [], [], []
        allowed = snapshot.allowed(where)
        for i, segment in enumerate(snapshot.segments):
            key = (segment.folder.name, layout.name)
            part, mask = self._parts.get(key), allowed[i]
            if part is None or part.generation > snapshot.generation:
                part = self._parts[key] = self._open(store, snapshot, i, layout)
            rows = part.places[:, 0]
            parts.append(part.index)
            masks.append(np.ones(len(rows), dtype=np.bool_) if mask is None else mask[rows])
            numbers.append(segment.chunks[rows])
        combined_mask: Mask = np.concatenate(masks)
        index = _combine(parts)
        restricted = index if combined_mask.all() else index.restricted(combined_mask)
        starts = np.concatenate([self._parts[s.folder.name, layout.name].places[:, 1]
                                 for s in snapshot.segments])  # fmt: skip
        return TokenView(restricted, np.concatenate(numbers), starts)

    def _open(
        self, store: StoreReader, snapshot: Snapshot, i: int, layout: TokenLayout
    ) -> _SegmentIndex:
        segment = snapshot.segments[i]
        folder = self._folder / segment.folder.name / layout.name
        if folder.is_dir():
            try:
                return _load(folder, layout, len(segment), snapshot.generation)
            except CollectionError as error:
                _log.warning("rebuilding a token index: %s", error)
        part = _build(store, snapshot, i, layout)
        try:
            _save(part, folder, layout, len(segment))
        except OSError as error:  # without a cached index, the next process builds it again
            _log.warning("the token index %s cannot be cached: %s", folder.name, error)
        return part


def _combine(parts: Sequence[NgramIndex | Trie]) -> TokenIndexOf:
    tries = [part for part in parts if isinstance(part, Trie)]
    if tries:
        return SegmentedTrie(tries)
    return SegmentedNgramIndex([part for part in parts if isinstance(part, NgramIndex)])


def _build(store: StoreReader, snapshot: Snapshot, i: int, layout: TokenLayout) -> _SegmentIndex:
    """Tokenize and index the live chunks of a segment."""
    segment, live = snapshot.segments[i], snapshot.live[i]
    live_rows = np.arange(len(segment)) if live is None else np.flatnonzero(live)
    places: list[tuple[int, int]] = []
    rows: list[Sequence[int]] = []
    for start in range(0, len(live_rows), _BATCH):
        block = live_rows[start : start + _BATCH]
        numbers = segment.chunks[block].tolist()
        chunks = store.chunks(numbers)
        used = set(store.first_chunks(numbers) if layout.scope == "document" else numbers)
        for row, number in zip(block.tolist(), numbers, strict=True):
            if number not in used:
                continue
            chunk = chunks[number]
            text = store.document_text(number) if layout.needs_text else chunk.text
            for text_start, tokens in layout.tokenize(chunk, text):
                places.append((row, text_start))
                rows.append(tokens)
    size, tokenizer = layout.vocab_size, layout.tokenizer
    index: NgramIndex | Trie
    if layout.kind == "trie":
        index = Trie.build(rows, size, max_length=None, tokenizer=tokenizer)
    else:
        unit = layout.granularity
        index = NgramIndex.build(rows, size, tokenizer=tokenizer, granularity=unit)
    place_array = np.array(places, dtype=np.int64).reshape(-1, 2)
    return _SegmentIndex(index, place_array, snapshot.generation)


def _save(part: _SegmentIndex, folder: Path, layout: TokenLayout, n_rows: int) -> None:
    for parent in (folder.parent, folder.parent.parent):
        if parent.is_symlink():  # in a downloaded collection, it could point anywhere
            raise OSError(f"{str(parent)!r} is a symbolic link; ragkit does not write through it")
    make_folder(folder.parent)
    temporary = folder.parent / f"{_TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    temporary.mkdir()  # unlike `mkdtemp`, with permissions for other readers of the collection
    try:
        files = [*part.index.save(temporary), temporary / _PLACES_FILE]
        np.save(files[-1], part.places, allow_pickle=False)
        digests = {file.name: file_digest(file) for file in files}
        metadata = {"generation": part.generation, "files": digests}
        manifest = temporary / "manifest.json"
        manifest.write_text(json.dumps(metadata, indent=1, sort_keys=True), encoding="utf-8")
        for file in [*files, manifest, temporary]:
            sync_path(file)
        if not _is_valid(folder, layout, n_rows, part.generation):  # another process may be faster
            remove_folder(folder)
            os.rename(temporary, folder)
            sync_path(folder.parent)
    except CollectionError as error:  # of `save`; here only the cache is affected
        raise OSError(str(error)) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_valid(folder: Path, layout: TokenLayout, n_rows: int, generation: int) -> bool:
    try:
        _load(folder, layout, n_rows, generation)
    except CollectionError:
        return False
    return not token_faults(folder)


def _load(folder: Path, layout: TokenLayout, n_rows: int, generation: int) -> _SegmentIndex:
    built, _ = _read_manifest(folder)
    if built > generation:
        raise CorruptCollection(
            f"token index {folder.name} was built from generation {built}, which is later than "
            f"generation {generation}"
        )
    kind = Trie if layout.kind == "trie" else NgramIndex
    index = kind.load(folder, tokenizer=layout.tokenizer)
    try:
        places: Rows = map_array(folder / _PLACES_FILE, np.int64, 2)  # type: ignore[assignment]
    except (OSError, ValueError) as error:
        raise CorruptCollection(f"token index {folder.name} cannot be read ({error})") from error
    fits = places.shape == (index.n_rows, 2) and index.vocab_size == layout.vocab_size
    if not fits or (len(places) and not (places.min() >= 0 and places[:, 0].max() < n_rows)):
        raise CorruptCollection(f"token index {folder.name} does not fit the rows of its segment")
    return _SegmentIndex(index, places, built)


def _read_manifest(folder: Path) -> tuple[int, dict[str, str]]:
    """Return the generation of an index, and the digests of its files."""
    try:
        metadata = json.loads(read_small(folder / "manifest.json", _MANIFEST_BYTES))
        generation, digests = metadata["generation"], dict(metadata["files"])
        if type(generation) is not int or digests.keys() != {*FILES, _PLACES_FILE}:
            raise ValueError(f"generation is {generation!r:.60}, files are {sorted(digests)}")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptCollection(f"token index {folder.name} cannot be read ({error})") from error
    return generation, digests


def token_faults(folder: Path) -> list[str]:
    """Check all digests of a token index; return one line per fault."""
    try:
        _, digests = _read_manifest(folder)
    except CorruptCollection as error:
        return [str(error)]
    faults = []
    for name, digest in sorted(digests.items()):
        file = folder / name
        try:  # pipes and devices are not read, since that may block or never end
            matches = file.is_file() and not file.is_symlink() and file_digest(file) == digest
        except OSError as error:
            faults.append(f"token index {folder.name}: {name} cannot be read ({error})")
            continue
        if not matches:
            faults.append(f"token index {folder.name}: {name} does not match its digest")
    return faults


def faulty_token_indexes(folder: Path) -> list[tuple[Path, str]]:
    """Find damaged token indexes; return each with its fault.

    A symbolic link is a fault: its target does not belong to the collection and is not removed.
    """
    faults = []
    for segment in _segment_folders(folder):
        if segment.is_symlink():
            faults.append((segment, f"token indexes {segment.name} are a symbolic link"))
            continue
        for index in sorted(segment.glob("*")):
            if not index.name.startswith(_TEMPORARY_PREFIX):
                faults += [(index, fault) for fault in token_faults(index)]
    return faults


def remove_unused(folder: Path, segments: set[str]) -> None:
    """Remove indexes of segments that no longer exist, and temporary folders of killed readers.

    A reader that is writing at that moment loses its folder, and uses the index in memory.
    """
    for path in _unused(folder, segments):
        try:
            remove_folder(path)
        except OSError as error:  # a reader may be writing there; the next collection removes it
            _log.warning("%s cannot be removed: %s", path, error)


def _unused(folder: Path, segments: set[str]) -> list[Path]:
    folders = _segment_folders(folder)
    unused = [path for path in folders if path.name not in segments]
    used = [path for path in folders if path not in unused and not path.is_symlink()]
    return unused + sorted(
        temporary for path in used for temporary in path.glob(f"{_TEMPORARY_PREFIX}*")
    )


def _segment_folders(folder: Path) -> list[Path]:
    """List the folders named like a segment; none if `folder` is a symbolic link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _SEGMENT_NAME.fullmatch(path.name))
