"""How many of our functions are on the stack when the work starts?

    python benchmarks/frames.py

Counts, by `sys.setprofile`, the frames of ragkit between a call of the public API and the innermost
function that does the work: from `QA.ask` with a hybrid retriever to the vector product, from
`Collection.add` to `embed_passages`. Both ends count. Generators that are suspended do not.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from ragkit import QA, Collection, Document, ExtractiveReader
from ragkit.indexes import exact
from ragkit.testing import HashEmbedder

GOALS = {"ask to the vector product": 7, "add to embedding": 6}
TEXTS = ("Gallium arsenide has a direct band gap.", "Silicon has an indirect band gap.")


def main() -> None:
    for name, frames in measure().items():
        print(f"{name}: {len(frames)} frames (goal: at most {GOALS[name]})")
        for frame in frames:
            print(f"    {frame}")


def measure() -> dict[str, list[str]]:
    """Return our functions on the stack by what is called."""
    embedder = HashEmbedder()
    with tempfile.TemporaryDirectory() as folder:
        notes = Collection(Path(folder) / "notes.rag", embedder=embedder)
        documents = [Document(str(n), text) for n, text in enumerate(TEXTS)]
        added = deepest(lambda: notes.add(documents), HashEmbedder.embed_passages.__code__)
        qa = QA(notes.retriever("hybrid"), ExtractiveReader(embedder, threshold=0.0))
        question = "Which band gap does silicon have?"
        asked = deepest(lambda: qa.ask(question), exact._products.__code__)
        notes.close()
    return {"ask to the vector product": asked, "add to embedding": added}


def deepest(run: Callable[[], object], work: CodeType) -> list[str]:
    """Run, and return the deepest stack of our functions at the start of the work."""
    stacks: list[list[str]] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code is work:
            stacks.append(ours(frame))

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    if not stacks:
        raise RuntimeError(f"{work.co_qualname} was never called")
    return max(stacks, key=len)


def ours(frame: FrameType | None) -> list[str]:
    """Return the names of ragkit's functions on a stack, outermost first."""
    names = []
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if module.startswith("ragkit."):
            names.append(f"{module}.{frame.f_code.co_qualname}")
        frame = frame.f_back
    return names[::-1]


if __name__ == "__main__":
    main()
