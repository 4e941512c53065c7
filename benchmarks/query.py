"""Queries beside the peers: warm dense queries, and the first search of a new process.

    python benchmarks/query.py [--peers PYTHON] [--n N] [--repeats R] [--out FILE]

Over the stored index that each system made of the same 2WikiMultihopQA passages. Warm: the median
of 200 queries one by one, text in, ten passages' texts out. Cold: from the start of the process to
the printed result, and the process's largest resident set; ragkit's is the command `ragkit search`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import BENCHMARKS, heading, run_system
from ingest import two_wiki
from systems import DENSE

N_QUERIES = 200


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--n", type=int, default=1000, help="passages")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    texts = two_wiki()[: options.n]
    result = {**heading(options.peers), "passages": len(texts)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = ({"_id": f"p{i}", "text": text} for i, text in enumerate(texts))
        passages = folder / "passages.jsonl"
        passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
        titles = [text.split("\n")[0] for text in texts[:N_QUERIES]]
        queries = folder / "queries.json"
        queries.write_text(json.dumps([f"Where was {title} born?" for title in titles]))
        for system in DENSE:
            run_system(options.peers, system, "ingest", passages, folder / system)
        result["warm_ms"] = warm(folder, queries, options)
        result["cold"] = cold(folder, f"Where was {titles[0]} born?", options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def warm(folder: Path, queries: Path, options: argparse.Namespace) -> dict[str, float]:
    """Median milliseconds a query."""

    def once(system: str) -> float:
        done = run_system(options.peers, system, "queries", folder / system, queries)
        return float(done["median_ms"])

    medians = {name: turns[0] for name, turns in in_turns(options.repeats, lambda s: [once(s)])}
    best = min(value for name, value in medians.items() if name != "ragkit")
    for name, value in medians.items():
        print(f"  warm query {name:22} {value:7.2f} ms")
    print(f"  1/{best / medians['ragkit']:.1f} of the best peer")
    return {**medians, "best_peer_to_ragkit": best / medians["ragkit"]}


def cold(folder: Path, query: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of a process that searches once."""

    def once(system: str) -> list[float]:
        if system == "ragkit":
            command = [str(Path(sys.executable).with_name("ragkit")), "search", query]
            command += ["--in", str(folder / system), "--retriever", "dense", "--json"]
        else:
            script = str(BENCHMARKS / "systems.py")
            command = [str(options.peers), script, system, "search", str(folder / system), query]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        if status:
            raise RuntimeError(f"{system} ended with status {status}")
        return [time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e6]

    found = {
        name: {"seconds": t[0], "peak_mb": t[1]} for name, t in in_turns(options.repeats, once)
    }
    for name, figures in found.items():
        print(f"  cold search {name:22} {figures['seconds']:6.2f} s {figures['peak_mb']:7.0f} MB")
    return found


def in_turns(repeats: int, once: Callable[[str], list[float]]) -> list[tuple[str, list[float]]]:
    """The medians of what every system gives; the systems take turns."""
    found: dict[str, list[list[float]]] = {system: [] for system in DENSE}
    for _ in range(repeats):
        for system in DENSE:
            found[system].append(once(system))
    return [
        (system, [statistics.median(column) for column in zip(*runs, strict=True)])
        for system, runs in found.items()
    ]


if __name__ == "__main__":
    main()
