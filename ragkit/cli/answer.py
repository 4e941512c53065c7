"""`ragkit verify`: verify the citations of a stored answer."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ragkit.cli import settings
from ragkit.cli.ask import JudgeOption
from ragkit.cli.common import (
    NO_EVIDENCE,
    InOption,
    JsonOption,
    note,
    open_collection,
    out,
    print_json,
)
from ragkit.errors import RagkitError
from ragkit.types import Document


def verify(
    answer: Annotated[
        str, typer.Argument(help="File written by `ragkit ask --json`; - reads stdin.")
    ],
    in_: InOption = None,
    docs: Annotated[
        list[str] | None, typer.Option("--docs", help="Verify against these files instead.")
    ] = None,
    judge: JudgeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify all citations: valid, stale or broken. Exit code 0 only if all are valid."""
    from ragkit.llms import load_llm
    from ragkit.pair.model import is_shipped
    from ragkit.readers.verification import verify_answer, verify_sentences

    data = _read(answer)
    judge_name = settings.value("judge", judge)
    llm = None if judge_name is None else load_llm(judge_name)
    checks = verify_answer(data, _documents(data, in_, docs))
    refusal = data.get("refusal")
    faults = verify_sentences(data, llm)
    valid = bool(checks) and not faults and all(check.state == "valid" for check in checks)
    if as_json:
        print_json({"valid": valid, "refusal": refusal, "citations": checks, "faults": faults})
    elif refusal:
        out(f"a refusal ({refusal.get('reason')}): nothing to verify")
    else:
        for check in checks:
            out(f"[{check.number}] {check.state:6} {check.doc_id}: {check.why}")
        for fault in faults:
            out(f"fault: {fault}")
        if not is_shipped():
            note("without the pair model, values or names that change places are not seen")
        if not checks:
            out("the answer has no citations")
    if refusal:
        raise typer.Exit(NO_EVIDENCE)
    if not valid:
        raise typer.Exit(1)


def _read(name: str) -> dict[str, Any]:
    try:
        data = json.loads(sys.stdin.read() if name == "-" else Path(name).read_text("utf-8"))
    except ValueError as error:
        raise RagkitError(
            f"{name!r} is not JSON: {error}; expected the output of `ragkit ask --json`"
        ) from error
    if not isinstance(data, dict) or "citations" not in data:
        raise RagkitError(f"{name!r} is not an answer; expected output of `ragkit ask --json`")
    return data


class _Files:
    """Documents read from files."""

    def __init__(self, paths: list[str]) -> None:
        from ragkit.documents import find_files, load_file
        from ragkit.errors import DocumentError

        self._documents: dict[str, Document] = {}
        for file in find_files([Path(path) for path in paths])[0]:
            try:
                documents = load_file(file).documents
            except DocumentError:
                continue  # not cited, or its citations are stale now
            self._documents |= {document.id: document for document in documents}

    def document(self, doc_id: str) -> Document | None:
        return self._documents.get(doc_id)


def _documents(data: dict[str, Any], in_: Path | None, docs: list[str] | None) -> Any:
    if docs:
        return _Files(docs)
    source = data.get("source")
    collection = source.get("collection") if isinstance(source, dict) else None
    if in_ is None and collection is None:
        raise RagkitError("the answer names no collection; use --in PATH or --docs PATH")
    path = in_ or Path(str(collection))
    if not (path / "collection.json").exists():
        raise RagkitError(f"the answer's collection is not at {str(path)!r}; use --in PATH")
    return open_collection(path)
