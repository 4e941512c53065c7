"""What the benchmarks share: where the data are, and the line that says on what they ran."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ragkit.evaluation.datasets import QASet, load_dataset, load_retrieval
from ragkit.evaluation.measures import accuracy
from ragkit.types import Document

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


def heading(peers: Path | None = None) -> dict[str, Any]:
    """Print and return on what a benchmark runs: machine, versions, the peers' versions, date."""
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d")}
    print(found["machine"], flush=True)
    if peers is not None:
        found["peers"] = peer_versions(peers)
        print(f"peers: {found['peers']}", flush=True)
    return found


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


def holds(text: str, answers: list[str]) -> bool:
    """Whether a normalised answer stands in the normalised text ("Lost in the middle")."""
    return accuracy(text, answers) == 1.0


def questions_of(name: str) -> tuple[list[Document], list[dict[str, Any]]]:
    """All passages of a set, and {question, answers, gold} of every question."""
    data = load_dataset(name, split="all" if name == "nq_gold" else None)
    assert isinstance(data, QASet)
    questions = [
        {"question": q.text, "answers": list(q.answers), "gold": q.gold[0]} for q in data.questions
    ]
    return list(data.passages), questions


def beir(name: str) -> tuple[list[Document], dict[str, str], dict[str, dict[str, int]]]:
    """A set's corpus, and the queries and qrels of its test split."""
    data = load_retrieval(name, split="test")
    return list(data.corpus), dict(data.queries), {q: dict(row) for q, row in data.qrels.items()}
