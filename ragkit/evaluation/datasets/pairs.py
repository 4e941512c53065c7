"""Readers of sentence pairs with scores, and of key-value probes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from pathlib import Path

from ragkit.evaluation.datasets.faults import Faults, Location, Malformed
from ragkit.evaluation.datasets.reading import (
    Source,
    as_object,
    as_pair,
    get_list,
    get_string,
    json_values,
    read_lines,
)
from ragkit.evaluation.datasets.shapes import KeyValueProbe, KeyValueSet, Pair, PairSet


def read_sts(path: str | Path, *, lenient: bool = False) -> PairSet:
    """Read the STS benchmark: CSV without a header, two sentences and a score from 0 to 5.

    Args:
        path: The file.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A row does not have three columns, has an empty sentence, or a score that is
            not from 0 to 5.

    Source:
        Cer et al. 2017; as CSV: https://github.com/PhilipMay/stsb-multi-mt.
    """
    faults = Faults(lenient=lenient)
    source = Source(Path(path))
    pairs = []
    for location, cells in csv_rows(source, faults):
        with faults.at(location):
            if len(cells) != 3:
                remedy = "expected three: sentence, sentence, score"
                raise Malformed(f"{len(cells)} columns", remedy)
            first, second, score = cells
            if not first.strip() or not second.strip():
                raise Malformed("an empty sentence", "fill it in or delete the row")
            pairs.append(Pair(location.position.split()[-1], first, second, _score(score)))
    return PairSet(source.path.stem, "all", tuple(pairs), faults.losses())


def csv_rows(source: Source, faults: Faults) -> Iterator[tuple[Location, list[str]]]:
    """Yield the rows of a CSV file that are not blank; the location of a row is its last line."""
    location = Location(str(source), "line 1")

    def numbered() -> Iterator[str]:
        nonlocal location
        for location, line in read_lines(source, faults, blank=True):  # noqa: B007
            yield line + "\n"

    reader = csv.reader(numbered(), strict=True)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            faults.add(
                location,
                str(error),
                "fix the quotes of this row",
                done="the rest of the file skipped",
            )
            return
        if row is None:
            return
        if row:
            yield location, row


def _score(cell: str) -> float:
    try:
        score = float(cell)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 5:
        raise Malformed(f"score {cell!r}", "a score is a number from 0 to 5")
    return score


def read_key_values(path: str | Path, *, lenient: bool = False) -> KeyValueSet:
    """Read key-value probes: JSON Lines of `ordered_kv_records`, `key`, `value`.

    Args:
        path: The file; .gz is decompressed.
        lenient: Skip malformed records and list them in `losses`.

    Raises:
        DatasetError: A record is malformed, or its key does not have its value.

    Source:
        Liu et al. 2024, https://github.com/nelson-liu/lost-in-the-middle.
    """
    faults = Faults(lenient=lenient)
    source = Source(Path(path))
    probes = []
    for number, (location, value) in enumerate(json_values(source, faults), start=1):
        with faults.at(location):
            row = as_object(value)
            records = []
            for record in get_list(row, "ordered_kv_records"):
                key, content = as_pair(record, "a record")
                cells = {"key": key, "value": content}
                records.append((get_string(cells, "key"), get_string(cells, "value")))
            probe = KeyValueProbe(
                str(number), tuple(records), get_string(row, "key"), get_string(row, "value")
            )
            if dict(records).get(probe.key) != probe.value or len(dict(records)) != len(records):
                problem = f"key {probe.key!r} does not occur exactly once with its value"
                raise Malformed(problem, "keys must be unique and include the key to look up")
            probes.append(probe)
    name = source.path.name.removesuffix(".gz").rsplit(".", 1)[0]
    return KeyValueSet(name, "all", tuple(probes), faults.losses())
