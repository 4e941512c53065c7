"""`make demo`: the main job in one screen. Documents in, cited answers out; and an agent's answer.

python notebooks/demo.py [COLLECTION]
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import ragkit
from ragkit.agents.definition import load_agent

QUESTIONS = (
    "What band gap does PBE density functional theory give for zincblende gallium arsenide?",
    "What is the measured band gap of lithium fluoride?",
    "What total magnetic moment does the Materials Project list for Fe3O4?",
)


def main() -> None:
    """Index the demo corpus, ask three questions, check every citation."""
    path = Path(sys.argv[1] if len(sys.argv) > 1 else ".demo/demo.rag")
    recipe = ragkit.load_recipe(Path(__file__).parents[1] / "indexes" / "demo")
    start = time.perf_counter()
    demo = ragkit.Collection(path)
    report = demo.add(recipe.paths)
    if recipe.adapter is not None:
        demo.use_adapter(recipe.adapter)
    print(
        f"{path}: {report.added} articles added, {report.unchanged} unchanged, {report.n_chunks} "
        f"new chunks, {report.n_embedded} texts embedded in {time.perf_counter() - start:.2f} s"
    )
    qa = demo.retriever(recipe.retriever) >> ragkit.SpanReader(demo.embedder)
    for question in QUESTIONS:
        start = time.perf_counter()
        answer = qa.ask(question)
        seconds = time.perf_counter() - start
        print(f"\n{question}\n  {answer.text}   ({1000 * seconds:.0f} ms)")
        checks = ragkit.verify_answer(answer, demo)
        for citation, check in zip(answer.citations, checks, strict=True):
            place = f"{citation.doc_id}:{citation.start}-{citation.end}"
            print(f"  [{check.number}] {check.state}  {place}")
    ask_agent("For my laser I need to know how wide the gap of gallium arsenide is.")


def ask_agent(question: str) -> None:
    """Ask the materials agent, and print its steps and its answer."""
    print(f"\n{question} (the materials agent)")
    for step in load_agent("materials").stream(question):
        if step.kind == "action":
            print(f"  {step.tool} {dict(step.arguments)}")
        elif step.kind == "final":
            print(f"  {step.text}")


if __name__ == "__main__":
    main()
