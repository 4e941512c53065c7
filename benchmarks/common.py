"""What the benchmarks share: where the data are, and the line that says on what they ran."""

from __future__ import annotations

import gzip
import json
import os
import platform
import re
import string
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ragkit.digests import text_digest
from ragkit.types import Document, Hit

BENCHMARKS = Path(__file__).resolve().parent
ROOT = BENCHMARKS.parent


def data_root() -> Path:
    """RAGKIT_DATA, else ../shared/data beside the project; ends the program if it is not there."""
    root = Path(os.environ.get("RAGKIT_DATA", ROOT.parent / "shared" / "data"))
    if not root.is_dir():
        sys.exit(f"no data at {root}; set RAGKIT_DATA to the folder with the data sets")
    return root


def machine() -> str:
    """Processor, cores and the versions that matter."""
    names = ("numpy", "onnxruntime", "tokenizers", "sqlalchemy")
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*: (.+)", info.read_text())
        cpu = found[1] if found else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{cpu}, {os.cpu_count()} cores, Python {platform.python_version()}, {libraries}"


def run_system(peers: Path, system: str, job: str, *arguments: object) -> dict[str, Any]:
    """One job of `systems.py` in a process of its own: ragkit's Python, or the peers'."""
    python = sys.executable if system in ("ragkit", "bm25s") else str(peers)
    command = [python, str(BENCHMARKS / "systems.py"), system, job, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{system} {job} failed:\n{done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def peer_versions(peers: Path) -> str:
    """The peers' versions; ends the program if their environment is not there."""
    if not peers.exists():
        sys.exit(f"no peers at {peers}; `make .venv-peers/.done` makes their environment")
    names = ("sentence-transformers", "txtai", "llama-index-core", "faiss-cpu", "torch")
    code = "import sys, importlib.metadata as m; print(', '.join(f'{n} {m.version(n)}' "
    code += "for n in sys.argv[1:]))"
    done = subprocess.run(
        [str(peers), "-c", code, *names], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def normalise(text: str) -> str:
    """SQuAD's normalisation: lower case, no punctuation, no articles, single spaces."""
    kept = "".join(char for char in text.lower() if char not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", kept).split())


def holds(text: str, answers: list[str]) -> bool:
    """Whether a normalised answer stands in the normalised text ("Lost in the middle")."""
    return any(normalise(answer) in normalise(text) for answer in answers)


def nq_oracle() -> tuple[list[Document], list[dict[str, Any]]]:
    """NQ with gold passages (litm_oracle_kv): passages, and {question, answers, gold}."""
    path = data_root() / "litm_oracle_kv" / "nq-open-oracle.jsonl.gz"
    passages: dict[str, Document] = {}
    questions = []
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            gold = row["ctxs"][0]
            doc_id = "nq-" + text_digest(f"{gold['title']}\n{gold['text']}")
            passages[doc_id] = Document(doc_id, gold["text"], gold["title"])
            questions.append(
                {"question": row["question"], "answers": row["answers"], "gold": doc_id}
            )
    return list(passages.values()), questions


def xquad() -> tuple[list[Document], list[dict[str, Any]]]:
    """XQuAD English (a part of SQuAD): paragraphs, and {question, answers, gold}."""
    data = json.loads((data_root() / "xquad" / "xquad.en.json").read_text())["data"]
    passages, questions = [], []
    for article in data:
        for number, paragraph in enumerate(article["paragraphs"]):
            doc_id = f"{article.get('title', len(passages))}#{number}"
            title = str(article.get("title", "")).replace("_", " ")
            passages.append(Document(doc_id, paragraph["context"], title))
            for row in paragraph["qas"]:
                answers = [answer["text"] for answer in row["answers"]]
                questions.append({"question": row["question"], "answers": answers, "gold": doc_id})
    return passages, questions


def beir(name: str) -> tuple[list[Document], dict[str, str], dict[str, dict[str, int]]]:
    """A BEIR set from its zip: corpus, queries, and the test split's qrels."""
    with zipfile.ZipFile(data_root() / name / f"{name}.zip") as archive:

        def lines(path: str) -> list[str]:
            return archive.read(f"{name}/{path}").decode("utf-8").splitlines()

        rows = [json.loads(line) for line in lines("corpus.jsonl")]
        corpus = [Document(row["_id"], row["text"], row["title"]) for row in rows]
        queries = {row["_id"]: row["text"] for row in map(json.loads, lines("queries.jsonl"))}
        qrels: dict[str, dict[str, int]] = {}
        for line in lines("qrels/test.tsv")[1:]:
            query, document, relevance = line.split("\t")
            qrels.setdefault(query, {})[document] = int(relevance)
    return corpus, queries, qrels


def best_chunks(hits: Sequence[Hit], k: int) -> dict[str, float]:
    """A document's score is its best chunk's: the first k documents of a run."""
    scores: dict[str, float] = {}
    for hit in hits:
        scores.setdefault(hit.chunk.doc_id, hit.score)
    return dict(list(scores.items())[:k])
