"""The small reproduction runs from end to end, at a size at which nothing is learned."""

import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("rapidfuzz")
sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

from generative_small import SYSTEMS, Claim, Sizes, Wiki, claims, judged, run_part, show

TINY = Sizes(
    pages=12, names=6, clues=8, values=6, width=8, genre_tokens=1000, seal_tokens=1000,
    ugr_pages=8, ugr_epochs=1, pretrain_tokens=1000, finetune_tokens=300, few=(0, 2, 4),
    genre_queries=6, queries=6, beams=3,
)  # fmt: skip


def test_wiki_is_the_same_for_a_seed_and_holds_test_pairs_out():
    wiki = Wiki.made(TINY, 3)
    assert wiki == Wiki.made(TINY, 3) != Wiki.made(TINY, 4)
    assert (len(wiki.train), len(wiki.test)) == (48, 12)
    assert not {each.text for each in wiki.train} & {each.text for each in wiki.test}
    assert len({page.clues for page in wiki.pages}) == len(wiki.pages)
    assert all(page.paragraphs[0].endswith(page.sentence) for page in wiki.pages)


@pytest.mark.models
def test_every_claim_is_judged(tmp_path, capsys):
    found = {system: {0: run_part(system, 0, TINY, tmp_path)} for system in SYSTEMS}
    rows = [judged(each, found[each.system]) for each in claims(TINY)]
    show(rows)
    shown = capsys.readouterr().out.splitlines()
    assert sum(" held " in line or " DID NOT HOLD " in line for line in shown) == len(rows)
    assert {row["system"] for row in rows} == set(SYSTEMS)
    assert [row["held"] for row in rows if row["kind"] in ("all", "equal")] == [True] * 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        f"{system}-0.json" for system in SYSTEMS
    )
    assert run_part("seal", 0, TINY, tmp_path) == found["seal"][0], "a finished part is taken"


def test_direction_that_is_reversed_did_not_hold():
    part = {"scores": {"a": [0.0] * 8, "b": [1.0] * 8}, "facts": {"chance": 0.1}}
    assert not judged(Claim("genre", "", "a", "b"), {0: part})["held"]
    assert judged(Claim("genre", "", "b", "a"), {0: part})["held"]
    assert not judged(Claim("genre", "", "b", kind="chance"), {0: part})["held"]
    assert judged(Claim("genre", "", "a", kind="chance"), {0: part})["held"]
