"""Where the time of ingestion and of a query goes, by part.

    python benchmarks/time_shares.py [--n N] [--out FILE]

Wall time of each part's entry points, measured by wrapping them; parts do not overlap. Passages are
2WikiMultihopQA's.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from common import heading
from ingest import two_wiki

from ragkit import Collection, Document
from ragkit.chunking import Chunker
from ragkit.collection.snapshot import Snapshot
from ragkit.embedders import load_embedder
from ragkit.embedders.onnx import OnnxEmbedder
from ragkit.embedders.tokenizer import HubTokenizer
from ragkit.indexes import bm25, terms
from ragkit.store.ledger import VectorLedger
from ragkit.store.store import Store

INGESTION = {
    "encoder": [(OnnxEmbedder, "_one_by_one")],
    "tokens of what is embedded": [(HubTokenizer, "ids")],
    "sentences and chunks": [(Chunker, "chunk")],
    "terms": [(terms.TermAnalyzer, "terms"), (bm25.PostingsBuilder, "add")],
    "store": [
        (Store, name)
        for name in ("stage", "live_versions", "count_embedded", "mark_embedded",
                     "commit_generation", "start_job", "end_job", "close")
    ],
    "ledger": [(VectorLedger, "find"), (VectorLedger, "append")],
}  # fmt: skip
QUERY = {
    "encoder": [(OnnxEmbedder, "_one_by_one")],
    "tokens": [(HubTokenizer, "ids")],
    "products and ranking": [(Snapshot, "search_vectors")],
    "store": [(Store, "chunks"), (Store, "generation")],
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--n", type=int, default=2000, help="passages")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    texts = two_wiki()[: options.n]
    result = heading()
    embedder = load_embedder("minilm")
    embedder.embed_passages(texts[:50])
    with tempfile.TemporaryDirectory() as folder:
        collection = Collection(Path(folder) / "profile.rag", embedder=embedder)
        documents = [Document(f"p{i}", text) for i, text in enumerate(texts)]
        with timed(INGESTION) as spent:
            start = time.perf_counter()
            collection.add(documents)
            total = time.perf_counter() - start
        result["ingestion"] = show(f"ingestion of {len(texts)} passages", spent, total)
        retriever = collection.retriever("dense", copies=True)
        queries = [f"Where was {text.split(chr(10))[0]} born?" for text in texts[:300]]
        for query in queries[:20]:
            retriever.retrieve([query], 10)
        with timed(QUERY) as spent:
            start = time.perf_counter()
            for query in queries:
                retriever.retrieve([query], 10)
            total = time.perf_counter() - start
        result["query"] = show(f"{len(queries)} dense queries", spent, total)
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n")


@contextmanager
def timed(parts: dict[str, list[tuple[type, str]]]) -> Iterator[dict[str, float]]:
    """Seconds spent in each part's methods, while the block runs."""
    spent = dict.fromkeys(parts, 0.0)
    patches = []

    def wrap(part: str, function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                spent[part] += time.perf_counter() - start

        return wrapper

    for part, methods in parts.items():
        for owner, name in methods:
            patches.append(mock.patch.object(owner, name, wrap(part, getattr(owner, name))))
    for patch in patches:
        patch.start()
    try:
        yield spent
    finally:
        for patch in patches:
            patch.stop()


def show(title: str, spent: dict[str, float], total: float) -> dict[str, float]:
    """Print each part's share of the total, and the rest's."""
    shares = {part: seconds / total for part, seconds in spent.items()}
    shares["else"] = 1 - sum(shares.values())
    print(f"{title}: {total:.2f} s")
    for part, share in shares.items():
        print(f"  {part:28} {share:6.1%}")
    return {"seconds": total, **shares}


if __name__ == "__main__":
    main()
