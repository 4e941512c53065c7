"""What a collection costs as it grows: memory of ingestion, opening, small changes.

    python benchmarks/scale.py [--out FILE]

Synthetic passages of 60 words from a Zipf-like vocabulary, with vectors of hashed words (384
numbers) instead of a model's: what is measured is everything around the model. Each figure is taken
in a process of its own; memory is its largest resident set, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from common import heading

from ragkit import Collection, Document
from ragkit.testing import HashEmbedder

SMALL, LARGE = 10_000, 100_000
QUERY = "w17 w4 w230"


def passages(start: int, stop: int) -> Iterator[Document]:
    """The documents numbered from `start` to before `stop`, each one chunk."""
    for number in range(start, stop):
        ranks = random.Random(number)
        words = [f"w{int(ranks.paretovariate(0.6)) % 200_000}" for _ in range(60)]
        yield Document(f"p{number}", " ".join(words) + ".")


def ingest(path: Path, n: int) -> dict[str, float]:
    """Add n passages to a new collection."""
    before = peak_mb()
    with opened(path) as collection:
        seconds = timed(lambda: collection.add(passages(0, n)))
    return {"n": n, "seconds": seconds, "before_mb": before, "peak_mb": peak_mb()}


def open_and_search(path: Path) -> dict[str, float]:
    """Open a collection and search once, densely and by terms."""

    def work() -> None:
        collection = opened(path)
        collection.retriever("bm25", copies=True).retrieve([QUERY])
        collection.retriever("dense", copies=True).retrieve([QUERY])

    before = peak_mb()
    seconds = timed(lambda: opened(path).snapshot())
    return {
        "open_s": seconds,
        "search_s": timed(work),
        "before_mb": before,
        "peak_mb": peak_mb(),
    }


def small_add(path: Path) -> dict[str, float]:
    """Add 100 passages, the median of five times."""
    start = LARGE * 2 + int(time.time())  # numbers that were not there before
    with opened(path) as collection:
        times = sorted(
            timed(
                lambda i=i: collection.add(list(passages(start + 100 * i, start + 100 * i + 100)))
            )  # type: ignore[misc]
            for i in range(5)
        )
    return {"median_s": times[2]}


def delete(path: Path) -> dict[str, float]:
    """Delete 1,000 documents."""
    with opened(path) as collection:
        seconds = timed(lambda: collection.delete([f"p{i}" for i in range(0, 10_000, 10)]))
    return {"seconds": seconds}


def compact(path: Path) -> dict[str, float]:
    """Merge all segments into one."""
    before = peak_mb()
    with opened(path) as collection:
        seconds = timed(collection.compact)
    return {"seconds": seconds, "before_mb": before, "peak_mb": peak_mb()}


def opened(path: Path) -> Collection:
    return Collection(path, embedder=HashEmbedder(384))


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak_mb() -> float:
    """This process's largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


STEPS: dict[str, Callable[..., dict[str, float]]] = {
    f.__name__: f for f in (ingest, open_and_search, small_add, delete, compact)
}


def step(name: str, *arguments: object) -> dict[str, float]:
    """Run one step in a fresh process."""
    command = [sys.executable, __file__, "--step", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    result = json.loads(done.stdout)
    print(f"{name:16} {' '.join(f'{key}={value:.3f}' for key, value in result.items())}")
    return dict(result)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, path, *rest = options.step
        print(json.dumps(STEPS[name](Path(path), *map(int, rest))))
        return
    result = heading()
    with tempfile.TemporaryDirectory() as folder:
        small, large, empty = (Path(folder) / f"{name}.rag" for name in ("small", "large", "empty"))
        result["ingest_small"] = step("ingest", small, SMALL)
        result["ingest_large"] = step("ingest", large, LARGE)
        result["open_large"] = step("open_and_search", large)
        result["add_100_to_empty"] = step("small_add", empty)
        result["add_100_to_large"] = step("small_add", large)
        result["delete_1000_of_large"] = step("delete", large)
        result["compact_large"] = step("compact", large)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
