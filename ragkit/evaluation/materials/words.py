"""How the benchmark's questions are worded: phrasings by kind, and words for properties."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ragkit.evaluation.materials.question import Kind


@dataclass(frozen=True, slots=True)
class Wording:
    """How a property is asked for.

    Attributes:
        tool: The search tool that is made for it.
        phrases: What people call it.
        units: Units it may be asked for in, in place of its own.
        material_only: Whether no table of values without ids has it.
    """

    tool: str
    phrases: tuple[str, ...]
    units: tuple[str, ...] = ()
    material_only: bool = True


WORDINGS: dict[str, Wording] = {
    "band_gap": Wording("electronic_structure", ("band gap", "bandgap", "energy gap"),
                        ("meV", "hartree", "rydberg", "J"), material_only=False),
    "formation_energy_per_atom": Wording(
        "thermo", ("formation energy per atom", "formation energy"),
        ("kJ/mol", "meV/atom"), material_only=False),
    "k_vrh": Wording("elasticity", ("bulk modulus", "Voigt-Reuss-Hill bulk modulus"),
                     ("Mbar", "MPa", "eV/angstrom^3"), material_only=False),
    "homogeneous_poisson": Wording("elasticity", ("Poisson ratio", "Poisson's ratio")),
    "universal_anisotropy": Wording("elasticity", ("elastic anisotropy",)),
    "ordering": Wording("magnetism", ("magnetic ordering", "magnetic order")),
    "total_magnetization_normalized_formula_units": Wording(
        "magnetism", ("magnetization per formula unit", "magnetisation per formula unit"),
        ("A*m^2", "J/T")),
    "e_total": Wording("dielectric", ("static dielectric constant", "total dielectric constant")),
    "e_electronic": Wording("dielectric", ("electronic dielectric constant",
                                           "electronic part of the dielectric constant")),
    "e_ionic": Wording("dielectric", ("ionic dielectric constant",)),
    "n": Wording("dielectric", ("refractive index", "index of refraction"), material_only=False),
    "e_ij_max": Wording("piezoelectric", ("piezoelectric modulus", "largest piezoelectric modulus"),
                        ("uC/cm^2",)),
    "volume": Wording("summary", ("cell volume", "unit cell volume"), ("nm^3", "bohr^3", "cm^3")),
    "nsites": Wording("summary", ("number of sites in the cell", "number of atoms in the cell")),
    "space_group": Wording("summary", ("space group", "space group symbol")),
    "crystal_system": Wording("summary", ("crystal system",)),
    "point_group": Wording("summary", ("point group",)),
}  # fmt: skip
"""Those of the snapshot that many materials have."""

MEASURED: dict[str, Wording] = {
    "band_gap": Wording("formula_tables", ("measured band gap", "experimental band gap"),
                        ("meV", "J", "hartree")),
    "yield_strength": Wording("formula_tables", ("measured yield strength", "yield strength"),
                              ("GPa", "psi")),
    "last_phdos_peak": Wording("formula_tables", ("highest phonon peak", "last phonon DOS peak"),
                               ("THz", "meV")),
}  # fmt: skip
"""Those that are known by formula only."""

SHOWN_UNITS = {
    "": "",
    "eV/atom": "eV/atom",
    "angstrom**3": "angstrom^3",
    "C/m**2": "C/m^2",
    "bohr_magneton": "Bohr magnetons",
    "1/cm": "1/cm",
}
FAMILIES = {
    "O": "oxide", "F": "fluoride", "Cl": "chloride", "Br": "bromide", "I": "iodide",
    "S": "sulfide", "Se": "selenide", "Te": "telluride", "N": "nitride", "P": "phosphide",
    "As": "arsenide", "Sb": "antimonide",
}  # fmt: skip
ORDERINGS = {"FM": "ferromagnetic", "AFM": "antiferromagnetic", "FiM": "ferrimagnetic"}
"""Non-magnetic materials are too many to list, and asking for them adds nothing."""

CLASSES = (
    "materials containing {elements}",
    "compounds with {elements}",
    "materials that contain {elements}",
)
CONDITIONS = {
    ">": ("have a {name} above {value}", "have a {name} greater than {value}",
          "show a {name} of more than {value}"),
    "<": ("have a {name} below {value}", "have a {name} less than {value}",
          "show a {name} of less than {value}"),
}  # fmt: skip

PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "lookup": (
        "What is the {name} of {subject}?",
        "Tell me the {name} of {subject}.",
        "{subject}: what {name} does it have?",
        "I need the {name} for {subject}.",
        "Look up the {name} of {subject}, please.",
        "Which {name} is held for {subject}?",
    ),
    "filter": (
        "Which {group} {condition}?",
        "List all {group} that {condition}.",
        "Find every one of the {group} that {condition}.",
        "Give me the {group} that {condition}.",
    ),
    "extremum": (
        "Which of the {group} has the {extreme} {name}?",
        "Among the {group}, which one has the {extreme} {name}?",
        "Find the {extreme} {name} among all {group}. Which material has it?",
        "What is the {extreme} {name} of any of the {group}, and which material is it?",
    ),
    "count": (
        "How many {group} {condition}?",
        "Count the {group} that {condition}.",
        "What is the number of {group} that {condition}?",
        "How many of the {group} {condition}?",
    ),
    "comparison": (
        "Which has the larger {name}, {first} or {second}, and what is the difference?",
        "Compare the {name} of {first} and {second}.",
        "Is the {name} of {first} larger than that of {second}, and by how much?",
        "What is the difference between the {name} of {first} and of {second}?",
    ),
    "conversion": (
        "What is the {name} of {subject} in {unit}?",
        "Give the {name} of {subject} in {unit}.",
        "Express the {name} of {subject} in {unit}.",
        "I want the {name} of {subject}, converted to {unit}.",
    ),
    "polymorph": (
        "How many polymorphs of {subject} are held?",
        "How many different phases does the database have for {subject}?",
        "Which polymorph of {subject} has the {extreme} {name}?",
        "Of the polymorphs of {subject}, which one has the {extreme} {name}?",
        "What is the {name} of the {group} polymorph of {subject}?",
        "What is the {name} of {subject} in the space group {group}?",
        "What are the material ids of the polymorphs of {subject}?",
        "List the ids of all phases of {subject}.",
    ),
    "missing": (
        "What is the {name} of {subject}?",
        "Tell me the {name} of {subject}.",
        "I need the {name} for {subject}.",
        "How large is the {name} of {subject}?",
    ),
    "ambiguous": (
        "What is the {name}?",
        "How high is the {name} of this material?",
        "Is the {name} of it larger than that of the other one?",
        "What about {subject}?",
        "What is the value for {subject}?",
        "How good is {subject}?",
        "Give me the number for {subject}, please.",
        "Which one has the larger {name}?",
        "What is the modulus of {subject}?",
        "Convert its {name} for me.",
    ),
    "misspelt": (
        "What is the {name} of {subject}?",
        "Tell me the {name} of {subject}.",
        "what is the {name} for {subject}",
        "{name} of {subject}?",
        "Please give me the {name} of {subject}.",
    ),
    "multi_hop": (
        "What is the {second} of the one of the {group} that has the {extreme} {name}?",
        "Find which of the {group} has the {extreme} {name}, and tell me its {second}.",
        "Among the {group}, take the one with the {extreme} {name}: what is its {second}?",
        "Of all {group}, the one with the {extreme} {name} has which {second}?",
    ),
    "irrelevant": (
        "What is the capital of {country}?",
        "Who is the head of government of {country}?",
        "How do I cook {dish}?",
        "Give me a recipe for {dish}.",
        "What will the weather be in {city} tomorrow?",
        "Which train goes to {city} in the morning?",
        "Write a poem about {topic}.",
        "Tell me a joke about {topic}.",
        "Translate '{topic}' into {language}.",
        "How do I say good morning in {language}?",
        "Who won the {sport} championship last year?",
        "What are the rules of {sport}?",
    ),
}
FILLERS = {
    "country": "Peru Norway Kenya Mongolia Chile Portugal Vietnam Iceland Ghana Nepal Uruguay "
               "Finland Oman Bolivia Jordan",
    "dish": "risotto ratatouille paella goulash ramen gnocchi moussaka falafel pancakes tiramisu "
            "ceviche borscht lasagne curry dumplings",
    "city": "Lisbon Nairobi Osaka Quito Bergen Hanoi Toronto Cairo Lima Zagreb Dublin Seville "
            "Mumbai Oslo Geneva",
    "topic": "autumn cats friendship homework gardens music sailing dragons breakfast birthdays "
             "holidays rabbits football the_sea the_moon",
    "language": "Italian Swahili Finnish Korean Greek Welsh Polish Turkish Hindi Basque Dutch "
                "Thai Czech Danish Arabic",
    "sport": "chess tennis handball cricket curling rugby hockey badminton volleyball snooker "
             "fencing judo rowing archery basketball",
}  # fmt: skip


EXTREMES: dict[Kind, dict[bool, tuple[str, ...]]] = {
    "extremum": {True: ("highest", "largest"), False: ("lowest",)},
    "polymorph": {True: ("highest",), False: ("lowest",)},
}


@dataclass(frozen=True, slots=True)
class Words:
    """How questions are worded.

    Attributes:
        phrasings: By kind, with slots for what is asked.
        properties: Their wordings.
        measured: Those of the properties that are known by formula only.
        classes: What materials with some elements are called.
        conditions: Above and below a value.
        fillers: What questions that have nothing to do with materials are about.
        counting: What shows that a phrasing about polymorphs asks for their number.
        highest: The share of extremes that are the highest; the others are the lowest.
        extremes: What the highest (True) and the lowest are called, by kind.
        openers: What may be said before a question and changes nothing.
        asides: What may be said after it.
        held_out: Reduced formulas that are not asked about.
        requests: How a supervisor words what it asks an assistant, by what it is for; what is not
            here is drawn from the phrasings.
        holds_out: Whether a fifth of all combinations (of a property with elements, or with a
            second property) is not asked about.
        spoken: The share of groups that are called by their element's name: "tin compounds".
        noise: The share of phrasings that are written carelessly; see `careless`.
    """

    phrasings: Mapping[Kind, tuple[str, ...]]
    properties: Mapping[str, Wording]
    measured: Mapping[str, Wording]
    classes: tuple[str, ...]
    conditions: Mapping[str, tuple[str, ...]]
    fillers: Mapping[str, str]
    counting: tuple[str, ...] = ("How many",)
    highest: float = 0.6
    extremes: Mapping[Kind, Mapping[bool, tuple[str, ...]]] = field(
        default_factory=lambda: EXTREMES
    )
    openers: tuple[str, ...] = ()
    asides: tuple[str, ...] = ()
    held_out: frozenset[str] = frozenset()
    requests: Mapping[str, str] = field(default_factory=dict)
    holds_out: bool = False
    spoken: float = 0.0
    noise: float = 0.0


BENCHMARK = Words(
    PHRASINGS, WORDINGS, MEASURED, CLASSES, CONDITIONS, FILLERS,
    requests=dict.fromkeys(("one of two", "second hop"), "What is the {name} of {subject}?"),
)  # fmt: skip


def careless(phrasing: str, rng: random.Random) -> str:
    """A phrasing as people type it: without capitals or marks, or with a slip in one word.

    What is in slots is left as it is: a slip there would ask for something else.
    """
    draw = rng.random()
    if draw < 0.35:
        return phrasing.rstrip("?.!")
    if draw < 0.7 and not phrasing.startswith("{"):
        return phrasing[0].lower() + phrasing[1:]
    words = re.split(r"( )", phrasing)
    usable = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if not usable:
        return phrasing
    chosen = rng.choice(usable)
    word = words[chosen]
    at = rng.randrange(1, len(word) - 1)
    slips = (word[:at] + word[at + 1 :], word[:at] + word[at] + word[at:],
             word[:at] + word[at + 1] + word[at] + word[at + 2 :])  # fmt: skip
    words[chosen] = rng.choice(slips)
    return "".join(words)
