"""What an index of all n-grams costs: building, memory, and a decoder's questions.

    python benchmarks/token_index.py [--out FILE]

Tokens of SmolLM2's tokenizer over the documents of nine data sets, a row a document. The documents
are shuffled; where a size asks for more tokens than there are, shuffled again and repeated, which
makes long repeats, the slow case of sorting suffixes. Each size is measured in processes of its
own. Questions are asked of the saved index, memory-mapped, whole and restricted to a share of its
rows:

    walk        `successors` and `advance` along ten tokens of text, from random places
    beams       `successors_of` 15 such prefixes at once, of 1 to 9 tokens
    mask        `allowed_mask` of the same, over the whole vocabulary
    wide        `successors` of the 100 most frequent tokens
    root        `successors` of the empty prefix
    count       `count` of a prefix
    locate      `locate` of a trigram, at most 1,500 places
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from common import heading
from numpy.typing import NDArray
from tokenizers import Tokenizer

from ragkit import models
from ragkit.evaluation.datasets import load_dataset
from ragkit.indexes.ngram import NgramIndex
from ragkit.indexes.prefixes import Prefix
from ragkit.indexes.suffix_array import suffix_array
from ragkit.indexes.token_rows import TokenRows
from ragkit.indexes.trie import Trie
from ragkit.llms.gguf import as_folder

CORPORA = ("nfcorpus", "cranfield", "cacm", "vaswani", "medline", "noveleval")
PASSAGES = ("2wiki_corpus", "nq_gold", "xquad")
SIZES = (100_000, 1_000_000, 10_000_000)
ALLOWED = (0.5, 0.01)
BEAMS, DEPTH = 15, 10
END = 0  # "<|endoftext|>"


def documents() -> list[tuple[str, str]]:
    """Title and text of every document."""
    found = [d for name in CORPORA for d in load_dataset(name).corpus]  # type: ignore[union-attr]
    found += [d for name in PASSAGES for d in load_dataset(name).passages]  # type: ignore[union-attr]
    return [(document.title, document.text) for document in found]


def tokenizer() -> Tokenizer:
    """SmolLM2's."""
    folder = models.resolve("smollm2")
    if not folder.is_dir():
        folder = as_folder(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def write_corpus(folder: Path) -> dict[str, float]:
    """Tokenise once; the other steps read the arrays."""
    encode, pairs = tokenizer(), documents()
    start = time.perf_counter()
    texts = [f"{title}\n{text}" for title, text in pairs]
    rows = [e.ids for e in encode.encode_batch(texts, add_special_tokens=False)]
    seconds = time.perf_counter() - start
    titles = [e.ids for e in encode.encode_batch([t for t, _ in pairs if t])]
    vocab_size = encode.get_vocab_size()
    for name, sequences in (("rows", rows), ("titles", titles)):
        packed = TokenRows.pack(sequences, vocab_size)
        np.savez(folder / name, tokens=packed.tokens, starts=packed.starts)
    n = sum(map(len, rows))
    return {
        "documents": len(rows),
        "tokens": n,
        "vocab_size": vocab_size,
        "tokenised_per_s": n / seconds,
    }


def read_corpus(folder: Path, name: str, vocab_size: int) -> TokenRows:
    arrays = np.load(folder / f"{name}.npz")
    return TokenRows(arrays["tokens"], arrays["starts"], vocab_size)


def shuffled_rows(rows: TokenRows, n_tokens: int) -> list[NDArray[Any]]:
    """Rows in random order, again and again, until they hold so many tokens."""
    generator = np.random.default_rng(0)
    chosen: list[NDArray[Any]] = []
    n = 0
    while n < n_tokens:
        for i in generator.permutation(rows.n_rows):
            chosen.append(rows.tokens[rows.starts[i] : rows.starts[i + 1] - 1])
            n += len(chosen[-1])
            if n >= n_tokens:
                break
    return chosen


def build(folder: Path, vocab_size: int, n_tokens: int) -> dict[str, float]:
    """Sort the suffixes and save them."""
    every = read_corpus(folder, "rows", vocab_size)
    chosen = shuffled_rows(every, n_tokens)
    start = time.perf_counter()
    packed = TokenRows.pack(chosen, vocab_size, tokenizer="smollm2", granularity="document")
    pack_s = time.perf_counter() - start
    before = peak_mb()
    start = time.perf_counter()
    index = NgramIndex(packed, suffix_array(packed))
    seconds = time.perf_counter() - start
    peak = peak_mb()
    target = folder / f"index-{n_tokens}"
    target.mkdir()
    start = time.perf_counter()
    files = index.save(target)
    return {
        "rows": index.n_rows,
        "tokens": index.n_tokens,
        "passes": index.n_tokens / (len(every.tokens) - every.n_rows),
        "pack_s": pack_s,
        "sort_s": seconds,
        "sorted_tokens_per_s": index.n_tokens / seconds,
        "save_s": time.perf_counter() - start,
        "bytes_per_token": sum(file.stat().st_size for file in files) / index.n_tokens,
        "peak_bytes_per_token_while_sorting": (peak - before) * 1e6 / index.n_tokens,
    }


def ask(folder: Path, vocab_size: int, n_tokens: int) -> dict[str, Any]:
    """A decoder's questions."""
    start = time.perf_counter()
    index = NgramIndex.load(folder / f"index-{n_tokens}", tokenizer="smollm2")
    result: dict[str, Any] = {"load_s": time.perf_counter() - start}
    result["whole"] = questions(index, vocab_size)
    for share in ALLOWED:
        allowed = np.random.default_rng(1).random(index.n_rows) < share
        start = time.perf_counter()
        view = index.restricted(allowed)
        seconds = time.perf_counter() - start
        extra_bits = 8 * (view.nbytes - index.nbytes) / index.n_tokens
        result[f"allowed {share}"] = {
            "restrict_s": seconds,
            "bits_per_token": extra_bits,
            **questions(view, vocab_size),
        }
    return result


def questions(index: NgramIndex, vocab_size: int) -> dict[str, float]:
    """Microseconds a question, the median of five rounds after one that warms the page cache."""
    generator = np.random.default_rng(2)
    starts, offsets = index.locate(index.start())
    walks = []
    for i in generator.integers(0, len(starts), 200):
        tokens = index.row(int(starts[i]))[offsets[i] : offsets[i] + DEPTH]
        walks.append(tokens.tolist())
    prefixes = [state for walk in walks for state in along(index, walk)]
    generator.shuffle(prefixes)
    groups = [prefixes[i : i + BEAMS] for i in range(0, 50 * BEAMS, BEAMS)]
    trigrams = [found for walk in walks if (found := index.find(walk[:3])) is not None]
    tokens = index.successors(index.start()).tolist()
    firsts = [index.advance(index.start(), token) for token in tokens]
    wide = sorted((f for f in firsts if f), key=index.count)[-100:]
    work: dict[str, tuple[Callable[[], object], int]] = {
        "walk": (lambda: [walk_along(index, walk) for walk in walks], sum(map(len, walks))),
        "beams": (lambda: [index.successors_of(group) for group in groups], len(groups)),
        "mask": (lambda: [index.allowed_mask(group, vocab_size) for group in groups], len(groups)),
        "wide": (lambda: [index.successors(state) for state in wide], len(wide)),
        "root": (lambda: index.successors(index.start()), 1),
        "count": (lambda: [index.count(state) for state in prefixes], len(prefixes)),
        "locate": (lambda: [index.locate(state, 1500) for state in trigrams], len(trigrams)),
    }
    result = {f"{name}_us": timed(each) / n * 1e6 for name, (each, n) in work.items()}
    result["walk_successors_per_s"] = 1e6 / result["walk_us"]
    result["beams_successors_per_s"] = 1e6 * BEAMS / result["beams_us"]
    result["wide_successors"] = float(np.mean([len(index.successors(state)) for state in wide]))
    result["wide_occurrences"] = float(np.mean([index.count(state) for state in wide]))
    return result


def along(index: NgramIndex, walk: Sequence[int]) -> list[Prefix]:
    """The prefixes of a walk but the empty one and the whole."""
    found = [index.find(walk[:n]) for n in range(1, len(walk))]
    return [state for state in found if state is not None]


def walk_along(index: NgramIndex, walk: Sequence[int]) -> None:
    state: Prefix | None = index.start()
    for token in walk:
        if state is not None:
            index.successors(state)
            state = index.advance(state, token)


def titles(folder: Path, vocab_size: int) -> dict[str, float]:
    """A trie of all titles."""
    packed = read_corpus(folder, "titles", vocab_size)
    rows = [packed.row(i).tolist() for i in range(packed.n_rows)]
    start = time.perf_counter()
    trie = Trie.build(rows, vocab_size, end_token=END, max_length=None)
    seconds = time.perf_counter() - start
    states = [trie.find(row[: len(row) // 2]) for row in rows[:1000]]
    return {
        "titles": trie.n_rows,
        "tokens": trie.n_tokens,
        "build_s": seconds,
        "bytes_per_title": trie.nbytes / trie.n_rows,
        "successors_us": timed(lambda: [trie.successors(s) for s in states if s]) / 1000 * 1e6,
    }


def timed(work: Callable[[], object]) -> float:
    """Seconds, the median of five after a first time."""
    work()
    times = []
    for _ in range(5):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[2]


def peak_mb() -> float:
    """This process's largest resident set so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


STEPS: dict[str, Callable[..., dict[str, Any]]] = {
    f.__name__: f for f in (write_corpus, build, ask, titles)
}


def step(name: str, *arguments: object) -> dict[str, Any]:
    """Run one step in a fresh process."""
    command = [sys.executable, __file__, "--step", name, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-2000:]}")
    result = dict(json.loads(done.stdout.splitlines()[-1]))
    print(name, *arguments[2:], json.dumps(rounded(result), indent=1), flush=True)
    return result


def rounded(value: Any) -> Any:
    """Numbers to four digits."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--step", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        name, path, *rest = options.step
        print(json.dumps(STEPS[name](Path(path), *map(int, rest))))
        return
    result = heading()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        result["corpus"] = step("write_corpus", folder)
        vocab_size = result["corpus"]["vocab_size"]
        result["titles"] = step("titles", folder, vocab_size)
        for size in SIZES:
            result[f"build {size}"] = step("build", folder, vocab_size, size)
            result[f"ask {size}"] = step("ask", folder, vocab_size, size)
    if options.out:
        options.out.write_text(json.dumps(rounded(result), indent=1) + "\n")


if __name__ == "__main__":
    main()
