"""Ingestion beside the peers: the same passages, the same MiniLM, one process each.

    python benchmarks/ingest.py [--peers PYTHON] [--n N] [--repeats R] [--out FILE]

Passages: 2WikiMultihopQA's, and NFCorpus cut into ragkit's 200-token chunks, so that no system has
to cut. Timed is from the loaded model to the stored index; ragkit's part includes chunking, terms,
ledger and commit. Systems take turns, and the medians of the turns are compared.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import beir, data_root, heading, run_system
from systems import DENSE

from ragkit.chunking import Chunker
from ragkit.embedders import load_embedder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peers", type=Path, default=Path(".venv-peers/bin/python"))
    parser.add_argument("--n", type=int, default=1000, help="passages of each data set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    result = heading(options.peers)
    for name, texts in (("2wiki", two_wiki()), ("nfcorpus", nfcorpus_chunks())):
        result[name] = compare(name, texts[: options.n], options)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


def two_wiki() -> list[str]:
    """2WikiMultihopQA's passages, each with its title."""
    path = data_root() / "multihop_train" / "2wikimultihopqa_corpus.json"
    return [f"{row['title']}\n{row['text']}" for row in json.loads(path.read_text())]


def nfcorpus_chunks() -> list[str]:
    """NFCorpus' abstracts in chunks of at most 200 tokens."""
    chunker = Chunker(load_embedder("minilm").tokenizer)
    corpus, _, _ = beir("nfcorpus")
    return [chunk.text for document in corpus[:1000] for chunk in chunker.chunk(document)]


def compare(name: str, texts: list[str], options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and memory of every system over the same texts."""
    found: dict[str, list[dict[str, float]]] = {system: [] for system in DENSE}
    with tempfile.TemporaryDirectory() as folder:
        passages = Path(folder) / "passages.jsonl"
        rows = ({"_id": f"p{i}", "text": text} for i, text in enumerate(texts))
        passages.write_text("".join(json.dumps(row) + "\n" for row in rows))
        for turn in range(options.repeats):
            for system in DENSE:
                store = Path(folder) / f"{system}-{turn}"
                done = run_system(options.peers, system, "ingest", passages, store)
                found[system].append(done)
                print(f"  turn {turn + 1} {system:22} {done['seconds']:.2f} s", flush=True)
    medians = {
        system: statistics.median(run["seconds"] for run in runs) for system, runs in found.items()
    }
    peak = {system: max(run["peak_mb"] for run in runs) for system, runs in found.items()}
    best = min(medians[system] for system in medians if system != "ragkit")
    ours = found["ragkit"]
    outside = statistics.median(1 - run["encoder_seconds"] / run["seconds"] for run in ours)
    print(f"{name}: {len(texts)} passages")
    for system, seconds in medians.items():
        print(f"  {system:22} {len(texts) / seconds:7.1f} passages/s {peak[system]:7.0f} MB")
    print(
        f"  {best / medians['ragkit']:.2f} times the best peer; outside the encoder {outside:.1%}"
    )
    return {
        "passages": len(texts),
        "seconds": medians,
        "peak_mb": peak,
        "ratio_to_best_peer": best / medians["ragkit"],
        "share_outside_encoder": outside,
    }


if __name__ == "__main__":
    main()
