"""Short passages about the properties of invented things, for both heads.

Questions of encyclopaedias seldom ask for a property of one of several like things ("What is the
density of X?" beside the densities of Y and Z). A reader that has not seen such questions takes the
sentence that says what X is. Every name and value here is drawn at random.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from ragkit.evaluation.datasets.shapes import SupportLabel, SupportPair
from ragkit.finetune.pair.examples import SpanExample

_CATIONS = (
    "Li Na K Mg Ca Sr Ba Al Ga In Sn Pb Zn Cd Cu Ag Fe Co Mn Ti Zr Y La Bi Sb Mo W V Nb".split()
)
_ANIONS = "O S Se Te N P As F Cl Br I O2 S2 Se2 O3 Cl3 Br3".split()
_SYLLABLES = "ba den kor lim mar nev or pel quin ras sol tav ul ver wen zan hol fer gal car".split()


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of thing: what it is called, and its properties with units and ranges."""

    nouns: tuple[str, ...]
    ending: tuple[str, ...]
    numbers: tuple[tuple[str, str, float, float, int], ...]  # property, unit, low, high, digits
    words: tuple[tuple[str, tuple[str, ...]], ...]  # property, values
    remarks: tuple[str, ...]


_KINDS = (
    _Kind(
        ("semiconductor", "grey solid", "ceramic", "metal", "compound", "crystal", "thin film"),
        ("", "ite", "ide", "ium"),
        (
            ("band gap", "eV", 0.2, 9, 2), ("melting point", "°C", 100, 3500, 0),
            ("density", "g/cm3", 1, 20, 2), ("bulk modulus", "GPa", 10, 450, 0),
            ("lattice constant", "Å", 2.5, 9, 3), ("thermal conductivity", "W/mK", 1, 900, 0),
            ("dielectric constant", "", 2, 300, 1), ("refractive index", "", 1.2, 4.5, 2),
            ("hardness", "GPa", 1, 40, 1), ("formation energy", "eV per atom", -4, -0.1, 2),
            ("electron mobility", "cm2/Vs", 10, 9000, 0), ("Curie temperature", "K", 20, 1400, 0),
        ),
        (
            ("crystal structure", ("rock salt", "wurtzite", "perovskite", "zinc blende", "rutile",
                                   "hexagonal", "cubic", "tetragonal")),
            ("colour", ("white", "black", "pale yellow", "dark red", "silvery", "colourless")),
            ("type of gap", ("direct", "indirect")),
        ),
        ("It is used in many devices.", "It is grown from the melt.", "It is stable in air.",
         "It is brittle.", "Samples were prepared by sintering.", "It is made in large amounts."),
    ),
    _Kind(
        ("town", "port", "river", "lake", "island", "mountain", "district"),
        ("a", "burg", "ia", "stead", "holm"),
        (
            ("population", "", 300, 900000, 0), ("area", "km2", 2, 4000, 0),
            ("elevation", "m", 3, 4200, 0), ("length", "km", 5, 900, 0),
            ("average rainfall", "mm", 100, 3000, 0), ("depth", "m", 2, 400, 0),
        ),
        (("official language", ("Danish", "Catalan", "Swahili", "Slovene", "Tamil")),
         ("main industry", ("fishing", "timber", "tourism", "mining", "shipbuilding"))),
        ("It lies in the north of the country.", "It was founded in the Middle Ages.",
         "Many visitors come in summer.", "It is known for its market."),
    ),
    _Kind(
        ("pump", "camera", "laptop", "drill", "car", "bicycle", "battery", "valve", "printer"),
        (" 300", "-12", " Pro", " Mini", " X"),
        (
            ("weight", "kg", 0.2, 2000, 1), ("price", "euros", 20, 60000, 0),
            ("battery life", "hours", 1, 80, 0), ("top speed", "km/h", 10, 320, 0),
            ("maximum pressure", "bar", 1, 500, 0), ("power", "W", 5, 9000, 0),
            ("warranty", "years", 1, 10, 0), ("capacity", "litres", 1, 900, 0),
        ),
        (("colour", ("red", "black", "white", "blue")),
         ("material", ("steel", "aluminium", "plastic", "carbon fibre"))),
        ("It comes with a manual.", "It is sold in most shops.", "The design is new.",
         "Spare parts are cheap."),
    ),
)  # fmt: skip

_FACTS = (
    "The {p} of {e} is {v}.", "{E} has a {p} of {v}.", "For {e}, the {p} is {v}.",
    "{E} shows a {p} of {v}.", "A {p} of {v} was reported for {e}.", "{E} ({p}: {v}) is common.",
    "With a {p} of {v}, {e} stands out.", "In {e} the {p} was found to be {v}.",
    "The {p} of {e} was measured as {v}.", "{E}: {p} {v}.",
)  # fmt: skip
_OWN_FACTS = ("Its {p} is {v}.", "It has a {p} of {v}.", "The {p} is {v}.", "{P}: {v}.")
_QUESTIONS = (
    "What is the {p} of {e}?", "What {p} does {e} have?", "{e} {p}", "{p} of {e}",
    "what is {e}'s {p}", "How large is the {p} of {e}?", "Do you know the {p} of {e}?",
    "Which {p} was found for {e}?", "What is {e}'s {p}?",
)  # fmt: skip
_STATEMENTS = (
    "The {p} of {e} is {v}.", "{E} has a {p} of {v}.", "{e} has {p} {v}.",
    "For {e} the {p} is {v}.", "It is {v}, the {p} of {e}.",
)  # fmt: skip


def _name(kind: _Kind, draw: random.Random) -> str:
    if kind is _KINDS[0] and draw.random() < 0.55:
        return draw.choice(_CATIONS) + draw.choice(_ANIONS)
    stem = "".join(draw.sample(_SYLLABLES, draw.randint(1, 2)))
    name = stem + draw.choice(kind.ending)
    return name if kind is _KINDS[0] else name[0].upper() + name[1:]


def _value(kind: _Kind, prop: str, draw: random.Random) -> str:
    for name, unit, low, high, digits in kind.numbers:
        if name == prop:
            number = low * (high / low) ** draw.random()
            text = f"{number:,.{digits}f}" if draw.random() < 0.5 else f"{number:.{digits}f}"
            return f"{text} {unit}".strip()
    return draw.choice(dict(kind.words)[prop])


@dataclass(frozen=True, slots=True)
class _Passage:
    text: str
    subject: str  # of the title and the first sentence
    facts: dict[tuple[str, str], str]  # (thing, property): value
    spans: dict[tuple[str, str], tuple[int, int]]
    kind: _Kind


def _passage(draw: random.Random) -> _Passage:
    kind = draw.choice((_KINDS[0], _KINDS[0], _KINDS[1], _KINDS[2]))
    names = list(dict.fromkeys(_name(kind, draw) for _ in range(draw.randint(2, 5))))
    subject, others = names[0], names[1:]
    props = [row[0] for row in kind.numbers] + [row[0] for row in kind.words]
    text = f"{subject}\n" if draw.random() < 0.5 else ""
    text += f"{_upper(subject)} is a {draw.choice(kind.nouns)}. "
    asked = draw.sample(props, min(len(props), draw.randint(2, 4)))
    rows: list[tuple[str, str, bool]] = [(subject, p, draw.random() < 0.5) for p in asked]
    rows += [
        (other, p, False)
        for other in others
        for p in draw.sample(asked + props, 2)
        if draw.random() < 0.6
    ]
    rows = list({(e, p): (e, p, own) for e, p, own in rows}.values())
    own = [row for row in rows if row[2]]
    rest = [row for row in rows if not row[2]]
    draw.shuffle(rest)
    facts, spans = {}, {}
    for e, p, is_own in own + rest:
        value = _value(kind, p, draw)
        template = draw.choice(_OWN_FACTS if is_own else _FACTS)
        before, after = template.split("{v}")
        fill = {"e": e, "E": _upper(e), "p": p, "P": _upper(p)}
        text += before.format(**fill)
        facts[e, p], spans[e, p] = value, (len(text), len(text) + len(value))
        text += value + after.format(**fill) + " "
        if draw.random() < 0.25:
            # "It" is the thing of the sentence before.
            text += draw.choice(kind.remarks) + " "
    return _Passage(text.strip(), subject, facts, spans, kind)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _unstated(passage: _Passage, draw: random.Random) -> tuple[str, str]:
    """Return a thing and a property that the passage has no value for."""
    props = [row[0] for row in passage.kind.numbers] + [row[0] for row in passage.kind.words]
    things = list(dict.fromkeys(e for e, _ in passage.facts))
    for _ in range(20):
        thing = draw.choice(things) if draw.random() < 0.75 else _name(passage.kind, draw)
        stated = {p for _, p in passage.facts}
        prop = draw.choice(sorted(stated) if draw.random() < 0.5 else props)
        if (thing, prop) not in passage.facts:
            return thing, prop
    return _name(passage.kind, draw), "price of repair"


def property_questions(n: int, seed: int = 0) -> Iterator[SpanExample]:
    """Yield questions for a property, three of five with an answer in the passage.

    Args:
        n: Number of passages; each has two questions.
        seed: Seed of all choices.
    """
    draw = random.Random(seed)
    for number in range(n):
        passage = _passage(draw)
        for _ in range(2):
            if draw.random() < 0.6:
                thing, prop = draw.choice(sorted(passage.facts))
                spans: tuple[tuple[int, int], ...] = (passage.spans[thing, prop],)
            else:
                (thing, prop), spans = _unstated(passage, draw), ()
            question = draw.choice(_QUESTIONS).format(p=prop, e=thing)
            yield SpanExample(question, passage.text, spans, f"property:{number}", "properties")


def property_statements(n: int, seed: int = 1) -> Iterator[SupportPair]:
    """Yield statements about a property: true, of another thing, of no thing; and comparisons.

    Args:
        n: Number of passages; each has two statements.
        seed: Seed of all choices.
    """
    draw = random.Random(seed)
    for number in range(n):
        passage = _passage(draw)
        group = f"property:{number}"
        for _ in range(2):
            if draw.random() < 0.3 and (pair := _comparable(passage, draw)):
                prop, small, large = pair
                is_true = draw.random() < 0.5
                first, second = (large, small) if is_true else (small, large)
                statement = draw.choice((
                    "{a} has a higher {p} than {b}.", "The {p} of {a} is larger than that of {b}.",
                    "{b} has a lower {p} than {a}.",
                )).format(a=_upper(first), b=second, p=prop)  # fmt: skip
                label: SupportLabel = "supported" if is_true else "contradicted"
                yield SupportPair(_upper(statement), passage.text, label, group, "properties")
                continue
            statement_for = draw.choice(_STATEMENTS)
            chance = draw.random()
            if chance < 0.8:
                thing, prop = draw.choice(sorted(passage.facts))
                value = passage.facts[thing, prop]
                if chance >= 0.45:
                    others = [
                        v for (_, p), v in sorted(passage.facts.items()) if p == prop and v != value
                    ]
                    new = others or [
                        v
                        for v in (_value(passage.kind, prop, draw) for _ in range(5))
                        if v != value
                    ]
                    if not new:
                        continue
                    value = draw.choice(new)
                label = "supported" if chance < 0.45 else "contradicted"
            else:
                thing, prop = _unstated(passage, draw)
                if prop == "price of repair":
                    continue
                value, label = _value(passage.kind, prop, draw), "unknown"
            statement = statement_for.format(e=thing, E=_upper(thing), p=prop, v=value)
            yield SupportPair(_upper(statement), passage.text, label, group, "properties")


def _comparable(passage: _Passage, draw: random.Random) -> tuple[str, str, str] | None:
    """Return a numeric property, the thing with the smaller value, the one with the larger."""
    found: list[tuple[str, str, str]] = []
    for prop, *_ in passage.kind.numbers:
        rows = [(e, v) for (e, p), v in sorted(passage.facts.items()) if p == prop]
        numbers = [(float(v.split(" ")[0].replace(",", "")), e) for e, v in rows]
        found += [(prop, e1, e2) for n1, e1 in numbers for n2, e2 in numbers if n1 < n2]
    return draw.choice(found) if found else None
