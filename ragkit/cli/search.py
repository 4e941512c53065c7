"""`ragkit search`: find passages for a query."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer

from ragkit.cli.common import (
    AdapterOption,
    InOption,
    JsonOption,
    ModelOption,
    RetrieverOption,
    StrictOption,
    WhereOption,
    copies_line,
    note_unfinished,
    open_collection,
    open_retriever,
    out,
    print_json,
    print_losses,
    read_argument,
    read_where,
)
from ragkit.losses import collect

_MAX_CHARACTERS = 400  # printed per passage


def search(
    query: Annotated[str, typer.Argument(help="Query; - reads stdin.")],
    in_: InOption = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of hits.")] = 5,
    retriever: RetrieverOption = None,
    model: ModelOption = None,
    adapter: AdapterOption = None,
    where: WhereOption = None,
    explain: Annotated[bool, typer.Option("--explain", help="Explain the scores.")] = False,
    strict: StrictOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find passages for a query."""
    collection = open_collection(in_)
    text = read_argument(query)
    with collect(strict=strict) as losses:
        source = open_retriever(collection, retriever, model, adapter)
        hits = source.retrieve([text], k, where=read_where(where))[0]
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
                for line in _details(part.detail):
                    out(f"       {line}")
        body = " ".join(f"{hit.chunk.table}\n{hit.chunk.text}".split())
        out(f"   {body[:_MAX_CHARACTERS]}{'…' if len(body) > _MAX_CHARACTERS else ''}")
        if line := copies_line(hit.copies):
            out(f"   {line}")
    if not hits:
        out("no hits")
        note_unfinished(collection)


def _details(detail: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines that explain the score of a part."""
    for term, share in sorted(detail.get("terms", {}).items(), key=lambda item: -item[1]):
        yield f"term {term}: {share:.4f}"
    for ngram in detail.get("ngrams", ()):
        location = "in the title"
        if ngram["start"] is not None:
            location = f"{ngram['start']}-{ngram['end']}"
        yield (
            f"n-gram {ngram['text']!r} ({location}): +{ngram['added']:.4f} of "
            f"{ngram['weight']:.4f}, log p {ngram['logp']:.2f}, {ngram['count']} in the corpus"
        )
    if "unigrams" in detail:
        yield f"other single tokens: +{detail['unigrams']:.4f}"
    for title in detail.get("titles", ()):
        yield f"title {title['text']!r}: log p {title['logp']:.2f}, {title['tokens']} tokens"
