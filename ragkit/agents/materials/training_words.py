"""How the questions are worded that a model is trained on: in other phrasings than the benchmark.

More phrasings of each kind, more names of each property, and some carelessness. The names that the
benchmark has for properties are learned, too; its phrasings are not. The materials of the LLaMP
paper's figure 3 are held out, as it is a benchmark of its own.
"""

from __future__ import annotations

from ragkit.agents.materials.formulas import reduced
from ragkit.agents.materials.question_types import Kind
from ragkit.agents.materials.question_words import MEASURED, WORDINGS, Wording, Words

_MORE_NAMES: dict[str, tuple[str, ...]] = {
    "band_gap": ("calculated band gap", "electronic band gap", "gap", "Eg", "DFT band gap",
                 "size of the band gap", "bandgap energy"),
    "formation_energy_per_atom": ("energy of formation", "calculated formation energy",
                                  "formation energy of one atom"),
    "k_vrh": ("bulk modulus K", "K_VRH", "bulk moduli", "VRH bulk modulus", "elastic bulk modulus",
              "incompressibility", "resistance to compression"),
    "homogeneous_poisson": ("Poisson number", "poisson ratio", "homogeneous Poisson ratio",
                            "Poisson coefficient"),
    "universal_anisotropy": ("universal anisotropy", "universal elastic anisotropy",
                             "anisotropy index", "anisotropy of the elastic constants"),
    "ordering": ("type of magnetism", "magnetic state", "kind of magnetic ordering",
                 "magnetic ground state", "spin ordering"),
    "total_magnetization_normalized_formula_units": (
        "magnetization per f.u.", "total magnetization per formula unit",
        "magnetic moment per formula unit", "moment per formula unit"),
    "e_total": ("dielectric constant", "total permittivity", "static permittivity",
                "relative permittivity", "full dielectric constant"),
    "e_electronic": ("high-frequency dielectric constant", "electronic permittivity",
                     "optical dielectric constant", "electronic contribution to the permittivity"),
    "e_ionic": ("ionic contribution to the dielectric constant", "ionic permittivity",
                "lattice dielectric constant", "ionic part of the dielectric constant"),
    "n": ("refraction index", "optical refractive index", "index of refraction n"),
    "e_ij_max": ("piezoelectric e modulus", "piezoelectric constant", "e_ij modulus"),
    "volume": ("volume of the unit cell", "volume of the cell", "unit-cell volume"),
    "nsites": ("number of atoms per unit cell", "number of sites", "atom count of the cell",
               "number of atoms in the unit cell"),
    "space_group": ("spacegroup", "space-group symbol", "SG symbol"),
    "crystal_system": ("crystal's system", "kind of crystal system"),
    "point_group": ("crystal class", "point symmetry group", "point-group symbol"),
}  # fmt: skip
_MORE_MEASURED: dict[str, tuple[str, ...]] = {
    "band_gap": ("band gap from experiment", "experimentally measured band gap",
                 "optical gap that was measured", "experimental gap"),
    "yield_strength": ("yield stress", "experimental yield strength", "tensile yield strength"),
    "last_phdos_peak": ("last peak of the phonon density of states", "topmost phonon peak",
                        "highest phonon frequency peak"),
}  # fmt: skip


def _named(wordings: dict[str, Wording], more: dict[str, tuple[str, ...]]) -> dict[str, Wording]:
    return {
        name: Wording(each.tool, (*_plain(each.phrases), *more[name]), each.units,
                      each.material_only)
        for name, each in wordings.items()
    }  # fmt: skip


def _plain(phrases: tuple[str, ...]) -> list[str]:
    """Without superlatives: "the lowest largest modulus" asks for nothing."""
    return [phrase for phrase in phrases if not phrase.startswith("largest")]


_PHRASINGS: dict[Kind, tuple[str, ...]] = {
    "lookup": (
        "What {name} does {subject} have?",
        "{name} for {subject}",
        "How big is the {name} of {subject}?",
        "Could you give me the {name} of {subject}?",
        "I'd like to know the {name} of {subject}.",
        "Find the {name} for {subject}.",
        "What's the {name} of {subject}?",
        "Do you know the {name} of {subject}?",
        "Show me {subject}'s {name}.",
        "What value is listed for the {name} of {subject}?",
        "For {subject}, what is the {name}?",
        "Report the {name} of {subject}.",
        "Please check which {name} {subject} has.",
        "Given {subject}, what is its {name}?",
        "My sample is {subject}. What is its {name}?",
        "{subject} {name}",
    ),
    "filter": (
        "Show every one of the {group} that {condition}.",
        "What {group} {condition}?",
        "I'm looking for {group} that {condition}.",
        "Are there {group} that {condition}? Name them.",
        "Name the {group} which {condition}.",
        "Search for {group} that {condition}.",
        "Can you list {group} that {condition}?",
        "I need all {group} that {condition}.",
        "Enumerate the {group} that {condition}.",
        "Tell me which {group} {condition}.",
    ),
    "extremum": (
        "What {group} have the {extreme} {name}? Give me the top one.",
        "Of all {group}, which shows the {extreme} {name}?",
        "I want the one of the {group} with the {extreme} {name}.",
        "Tell me the {extreme} {name} found in {group}.",
        "Name the material with the {extreme} {name} of all {group}.",
        "Show me the record holder: the {extreme} {name} of the {group}.",
        "Who has the {extreme} {name} among {group}?",
        "Search the {group} for the {extreme} {name}.",
        "Which material is it that has the {extreme} {name} of the {group}?",
    ),
    "count": (
        "How many of all {group} {condition}?",
        "Tell me how many {group} {condition}.",
        "I want the count of {group} that {condition}.",
        "Give the number of {group} that {condition}.",
        "In total, how many {group} {condition}?",
        "Please count {group} that {condition}.",
        "How large is the number of {group} that {condition}?",
    ),
    "comparison": (
        "Does {first} or {second} have the larger {name}? By what amount?",
        "Between {first} and {second}, which has the higher {name} and how far apart are they?",
        "How much larger or smaller is the {name} of {first} than that of {second}?",
        "{first} versus {second}: {name}?",
        "How does the {name} of {first} compare to that of {second}?",
        "Put the {name} of {first} and {second} side by side.",
        "By how much do {first} and {second} differ in {name}?",
        "Which is bigger, the {name} of {first} or of {second}?",
        "Subtract the {name} of {second} from that of {first}.",
    ),
    "conversion": (
        "How many {unit} is the {name} of {subject}?",
        "What's the {name} of {subject}, in {unit}?",
        "In {unit}, what is the {name} of {subject}?",
        "Report the {name} of {subject} in units of {unit}.",
        "Convert the {name} of {subject} to {unit}.",
        "I need the {name} of {subject} as {unit}.",
        "Could you state the {name} of {subject} in {unit}?",
        "{name} of {subject} in {unit}",
    ),
    "polymorph": (
        "How many phases of {subject} do you know?",
        "Count the polymorphs of {subject}.",
        "What is the number of different structures of {subject}?",
        "How many crystal structures of {subject} are there in the data?",
        "Which ids belong to {subject}?",
        "Give me every material id of {subject}.",
        "Name all entries for {subject} by id.",
        "I need the mp-ids of all forms of {subject}.",
        "Which phase of {subject} shows the {extreme} {name}?",
        "Among the phases of {subject}, which has the {extreme} {name}?",
        "Find the structure of {subject} with the {extreme} {name}.",
        "{subject} has several forms: which of them has the {extreme} {name}?",
        "Give the {name} of {subject} with space group {group}.",
        "{name} of {group} {subject}?",
        "How large is the {name} of the {group} phase of {subject}?",
        "For {subject} in space group {group}, what is the {name}?",
    ),
    "missing": (
        "What {name} does {subject} have?",
        "{name} for {subject}",
        "Could you give me the {name} of {subject}?",
        "I'd like to know the {name} of {subject}.",
        "Find the {name} for {subject}.",
        "What's the {name} of {subject}?",
        "Do you know the {name} of {subject}?",
        "For {subject}, what is the {name}?",
        "Report the {name} of {subject}.",
        "Please check which {name} {subject} has.",
    ),
    "ambiguous": (
        "What's its {name}?",
        "Tell me the {name}, please.",
        "What {name} does that compound have?",
        "How large is the {name}?",
        "Give me the {name} of the material.",
        "Which of the two has the higher {name}?",
        "Is the {name} large?",
        "Compare the {name} of them.",
        "Please report the {name} of the sample.",
        "Tell me about {subject}.",
        "Is {subject} any good?",
        "What do you think of {subject}?",
        "{subject}?",
        "Find the value of {subject}.",
        "What is the number for {subject}?",
        "I need data on {subject}.",
        "How much has {subject}?",
        "What is the constant of {subject}?",
        "What energy does {subject} have?",
        "Which property of {subject} is the best?",
        "Convert the value of {subject}.",
        "Is it higher than that of {subject}?",
    ),
    "misspelt": (
        "What {name} does {subject} have?",
        "{name} for {subject}",
        "could you give me the {name} of {subject}?",
        "Find the {name} for {subject}.",
        "what's the {name} of {subject}",
        "For {subject}, what is the {name}?",
        "{subject} {name}?",
        "i need the {name} of {subject}",
    ),
    "multi_hop": (
        "What {second} does the one of the {group} with the {extreme} {name} have?",
        "Take the {group}: which has the {extreme} {name}, and what is its {second}?",
        "Look for the {extreme} {name} among {group} and give me the {second} of that material.",
        "First find the one of the {group} with the {extreme} {name}, then its {second}.",
        "I want the {second} of whichever of the {group} has the {extreme} {name}.",
        "The material with the {extreme} {name} of all {group}: what {second} does it have?",
        "Give me the {second} of the {group} member with the {extreme} {name}.",
    ),
    "irrelevant": (
        "What is the population of {country}?",
        "Which language is spoken in {country}?",
        "Who wrote {topic}?",
        "Recommend a book about {topic}.",
        "How long does it take to bake {dish}?",
        "Where can I eat good {dish}?",
        "What do I need for {dish}?",
        "Is it raining in {city}?",
        "Book a hotel in {city}.",
        "How do I get to {city} by bus?",
        "What time is it in {city}?",
        "Tell me a story about {topic}.",
        "Write an email about {topic}.",
        "Summarise the history of {country}.",
        "What does thank you mean in {language}?",
        "Teach me some {language}.",
        "How is {sport} played?",
        "Who is the best {sport} player of all time?",
        "When is the next {sport} match?",
        "Hello, how are you?",
        "What is your name?",
        "Who made you?",
        "Thanks, that was helpful!",
        "Name {digit} songs about {topic}.",
        "I have {digit} cats. What shall I call them?",
        "Plan a trip of {digit} days to {city}.",
        "Give me {digit} reasons to visit {country}.",
        "Write a program that sorts numbers.",
        "How do I learn {topic}?",
        "What should I wear in {city}?",
        "Who painted {topic}?",
        "Give me advice about {topic}.",
        "Play some {language} music.",
        "How expensive is a flight to {country}?",
        "Is {dish} healthy?",
        "Draw a picture of {topic}.",
    ),
}
_FILLERS = {
    "country": "France Brazil Egypt Canada Thailand Poland Mexico Iran Cuba Spain Sweden Morocco "
               "Laos Ireland Belgium",
    "dish": "pizza soup bread rice noodles salad omelette stew pasta cake pudding tacos sushi "
            "waffles porridge",
    "city": "Paris Madrid Tokyo Boston Delhi Berlin Rome Sydney Moscow Athens Prague Lagos Vienna "
            "Glasgow Manila",
    "topic": "love winter dogs money school flowers dancing pirates dinner parties travel horses "
             "baseball mountains the_stars my_boss history programming painting",
    "language": "French German Spanish Russian Latin Hebrew Urdu Serbian Tamil Irish Norwegian "
                "Bengali Zulu Malay Chinese",
    "sport": "football lacrosse golf boxing surfing skiing karate polo darts swimming diving "
             "squash sailing",
    "digit": "2 3 4 5 6 7 8 9 12 17",
}  # fmt: skip
# Figure 3 of Chiang et al. 2024 (LLaMP), in its four panels.
_FIGURE_3 = (
    "Sc Ti V Cr Mn Fe Co Ni Cu Zn Ag2O3 MgZn2 GaAs GaN SiC BN InSe MoS2 BaTiO3 CsPbI3 Si Ge "
    "Ba(PdS2)2 FePO4 DyBi2IO4 NaFe(SO4)2 Eu2B5BrO9 Sr5As3H TlGaS2 AgSbS2 Pr3S3N LiLaO2"
)

TRAINING = Words(
    phrasings=_PHRASINGS,
    properties=_named(WORDINGS, _MORE_NAMES),
    measured=_named(MEASURED, _MORE_MEASURED),
    classes=(
        "materials with {elements}",
        "compounds containing {elements}",
        "compounds of {elements}",
        "solids that contain {elements}",
        "materials made with {elements}",
        "crystals with {elements} in them",
    ),
    conditions={
        ">": ("have a {name} over {value}", "have a {name} larger than {value}",
              "have a {name} higher than {value}", "exceed {value} in {name}",
              "show a {name} above {value}"),
        "<": ("have a {name} under {value}", "have a {name} smaller than {value}",
              "have a {name} lower than {value}", "stay below {value} in {name}",
              "show a {name} of under {value}"),
    },
    fillers=_FILLERS,
    counting=("How many", "how many", "ount the", "number of different"),
    asides=(
        "Please be brief.",
        "I need it for a report.",
        "Thanks!",
        "It is for my thesis.",
        "Take your time.",
        "Cheers.",
        "Thank you in advance.",
    ),
    held_out=frozenset(reduced(formula) for formula in _FIGURE_3.split()),
    # always the same: a wording that is drawn cannot be learned
    requests=dict.fromkeys(("given", "one of two", "second hop"), "Report the {name} of {subject}.")
    | {"first hop": "Name the material with the {extreme} {name} of all {group}."},
    holds_out=True,
    spoken=0.25,
    noise=0.25,
)  # fmt: skip
"""For training and its development split."""

MORE_TABLES = {
    "k_vrh": Wording("elasticity", TRAINING.properties["k_vrh"].phrases, material_only=False),
    "g_vrh": Wording("elasticity", ("shear modulus", "VRH shear modulus", "G_VRH", "rigidity",
                                    "modulus of rigidity"), material_only=False),
    "n": Wording("dielectric", TRAINING.properties["n"].phrases, material_only=False),
    "band_gap": Wording("electronic_structure", TRAINING.properties["band_gap"].phrases[:6],
                        material_only=False),
}  # fmt: skip
"""Properties that many formulas have in a table and not as materials."""

UNKNOWN = (
    "melting point", "boiling point", "price", "hardness", "colour",
    "electrical resistivity", "Debye temperature", "toxicity", "solubility in water", "viscosity",
    "critical temperature", "Curie temperature", "superconducting transition temperature",
    "heat capacity", "thermal expansion", "electron mobility", "hole mobility", "work function",
    "fracture toughness", "ionic conductivity", "Seebeck coefficient", "vapour pressure",
    "diffusion coefficient", "surface energy", "abundance", "half-life", "CAS number",
    "exciton binding energy", "effective mass", "speed of sound",
)  # fmt: skip
"""Properties that no tool has."""
