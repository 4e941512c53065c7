"""HTML of hits and answers: texts are escaped and cited spans highlighted."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from ragkit.types import Answer, Chunk, Citation, Hit, Loss, Refusal, Sentence

EVIL = "<script>alert('x')</script> <img src=x onerror=\"y\"> & </div>"


class Tags(HTMLParser):
    """Parser that records tags with their attribute names and checks that they are balanced."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, tuple[str, ...]]] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add((tag, tuple(name for name, _ in attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def tags(html: str) -> set[tuple[str, tuple[str, ...]]]:
    parser = Tags()
    parser.feed(html)
    assert parser.open == []
    return parser.seen


def make_hit(text: str, *, title: str = "", chunk_id: str = "d:10", **metadata: object) -> Hit:
    chunk = Chunk(chunk_id, "d", text, 10, 10 + len(text), {"title": title, **metadata})
    return Hit(chunk, 0.123456)


def cite(start: int, quote: str, chunk_id: str = "d:10") -> Citation:
    return Citation("d", chunk_id, start, start + len(quote), quote, "")


def test_hit_with_hostile_text_title_and_id_is_escaped():
    html = make_hit(EVIL, title=EVIL, chunk_id=EVIL, page=EVIL)._repr_html_()
    assert tags(html) == {("div", ()), ("div", ("style",)), ("b", ()), ("span", ("style",))}
    assert html.count("&lt;script&gt;") == 4
    assert "0.1235" in html


def test_hit_without_title_shows_its_document():
    assert "<b>d</b>" in make_hit("x")._repr_html_()
    assert "d:10, page 3" in make_hit("x", page=3)._repr_html_()


def test_answer_marks_exactly_the_cited_span():
    hit = make_hit("One <b>. Two & two. Three.")
    answer = Answer("q", "Two & two. [1]", (Sentence(0, 14, (1,), "quoted"),),
                    (cite(19, "Two & two."),), (hit, make_hit("no", chunk_id="e")))  # fmt: skip
    html = answer._repr_html_()
    [marked] = re.findall(r"<mark[^>]*>(.*?)</mark><sup>(.*?)</sup>", html)
    assert marked == ("Two &amp; two.", "[1]")
    assert "One &lt;b&gt;. <mark" in html
    assert "</sup> Three." in html
    assert ">no<" not in html  # a hit that is not cited is not shown


def test_answer_with_overlapping_citations_shows_every_number_once():
    hit = make_hit("abcdef")
    citations = (cite(12, "cd"), cite(10, "abc"), cite(14, "e"))
    html = Answer("q", "x", (Sentence(0, 1, (1, 2, 3), "quoted"),), citations, (hit,))._repr_html_()
    assert re.sub(r"<mark[^>]*>", "<mark>", html).count(
        "<mark>abc</mark><sup>[2]</sup><sup>[1]</sup>d<mark>e</mark><sup>[3]</sup>f"
    )


def test_answer_with_hostile_parts_is_escaped():
    hit = make_hit(EVIL, title=EVIL)
    loss = Loss(EVIL, EVIL, EVIL, EVIL, EVIL)
    answer = Answer(EVIL, EVIL, (Sentence(0, 5, (1,), "quoted"),), (cite(10, EVIL),), (hit,),
                    losses=(loss,))  # fmt: skip
    seen = tags(answer._repr_html_())
    assert {tag for tag, _ in seen} == {"div", "p", "b", "span", "mark", "sup"}
    assert {name for _, names in seen for name in names} == {"style"}


def test_refusal_says_so_with_its_reason():
    html = Answer("why?", "", hits=(make_hit("x"),), refusal=Refusal("no_evidence"))._repr_html_()
    assert "<b>No answer</b> (no_evidence)." in html
    assert "<mark" not in html
    tags(html)
