"""`ragkit search`: passages for a query."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ragkit.cli import settings
from ragkit.cli.common import (
    InOption,
    JsonOption,
    RetrieverOption,
    StrictOption,
    WhereOption,
    note_unfinished,
    open_collection,
    out,
    print_json,
    print_losses,
    read_argument,
    read_where,
)
from ragkit.losses import collect

_SHOWN = 400  # code points of a passage


def search(
    query: Annotated[str, typer.Argument(help="The query; - reads it from stdin.")],
    in_: InOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="How many hits.")] = 5,
    retriever: RetrieverOption = None,
    where: WhereOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show what made each score.")] = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find passages."""
    collection = open_collection(in_)
    text = read_argument(query)
    name: Any = settings.value("retriever", retriever)
    with collect(strict=strict) as losses:
        hits = collection.retriever(name).retrieve([text], k, where=read_where(where))[0]
    if as_json:
        print_json({"query": text, "hits": hits, "losses": losses})
        return
    print_losses(losses)
    for rank, hit in enumerate(hits, start=1):
        title = hit.chunk.metadata.get("title") or hit.chunk.doc_id
        page = f", page {hit.chunk.metadata['page']}" if "page" in hit.chunk.metadata else ""
        out(f"{rank}. {title}  [{hit.chunk.id}{page}]  {hit.score:.4f}")
        if explain:
            for part in hit.parts:
                out(f"     {part.stage}/{part.name}: rank {part.rank}, {part.score:.4f}")
                terms = part.detail.get("terms", {})
                for term, share in sorted(terms.items(), key=lambda item: -item[1]):
                    out(f"       term {term}: {share:.4f}")
        body = " ".join(hit.chunk.text.split())
        out(f"   {body[:_SHOWN]}{'…' if len(body) > _SHOWN else ''}")
    if not hits:
        out("no hits")
        note_unfinished(collection)
