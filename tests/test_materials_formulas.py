"""Formulas: hand-worked cases, refusals that help, and properties over random compositions."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ragkit.agents.materials.chemistry.formulas import (
    chemsys,
    element_symbol,
    from_name,
    parse_formula,
    reduced,
    suggest,
)
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.crystals.symmetry import (
    crystal_system,
    point_group,
    space_group_symbol,
)
from ragkit.agents.tools import ToolError

BLUE_VITRIOL = {"Cu": 1, "S": 1, "O": 9, "H": 10}

symbols = st.sampled_from(sorted(ELEMENTS))
compositions = st.dictionaries(symbols, st.integers(1, 40), min_size=1, max_size=6)


def written(composition):
    return "".join(
        f"{element}{count if count > 1 else ''}" for element, count in composition.items()
    )


@pytest.mark.parametrize(
    ("text", "atoms"),
    [
        ("GaAs", {"Ga": 1, "As": 1}),
        ("Ga1As1", {"Ga": 1, "As": 1}),
        ("Ag0.5Ge1Pb1.75S4", {"Ag": 0.5, "Ge": 1, "Pb": 1.75, "S": 4}),
        ("Ca(OH)2", {"Ca": 1, "O": 2, "H": 2}),
        ("K4[Fe(CN)6]", {"K": 4, "Fe": 1, "C": 6, "N": 6}),
        ("Mg{Al[Si(O)2]3}2", {"Mg": 1, "Al": 2, "Si": 6, "O": 12}),
        ("CuSO4·5H2O", BLUE_VITRIOL),
        ("CuSO4*5H2O", BLUE_VITRIOL),
        ("CuSO4 ∙ 5 H2O", BLUE_VITRIOL),
        ("CuSO4.5H2O", BLUE_VITRIOL),
        ("CaSO4.0.5H2O", {"Ca": 1, "S": 1, "O": 4.5, "H": 1}),
        ("Na0.5H2O", {"Na": 0.5, "H": 2, "O": 1}),
        ("FePO_4", {"Fe": 1, "P": 1, "O": 4}),
        ("$\\mathrm{Fe_{2}O_{3}}$", {"Fe": 2, "O": 3}),
        ("Fe<sub>2</sub>O<sub>3</sub>", {"Fe": 2, "O": 3}),
        ("Fe₂O₃", {"Fe": 2, "O": 3}),
        ("D2O", {"H": 2, "O": 1}),
        ("LiT", {"Li": 1, "H": 1}),
        ("HDO", {"H": 2, "O": 1}),
        ("^{7}LiF", {"Li": 1, "F": 1}),
        ("Rb2 Te1", {"Rb": 2, "Te": 1}),
        ("2H2O", {"H": 4, "O": 2}),
        ("CO", {"C": 1, "O": 1}),
        ("Co", {"Co": 1}),
        ("Og", {"Og": 1}),
    ],
)
def test_a_formula_is_read_as_worked_out_by_hand(text, atoms):
    assert parse_formula(text) == atoms


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("GaAS", "'A' is no element. Did you mean GaAs?"),
        ("gaas", "Did you mean GaAs?"),
        ("BaTi03", "the number 03 starts with 0 (the letter O may be meant). Did you mean BaTiO3"),
        ("Fe3+", "Leave the charge out: Fe."),
        ("SO4^2-", "Leave the charge out: SO4."),
        ("2H-MoS2", "Leave the prefix out: MoS2."),
        ("Ga-As", "give it as chemsys"),
        ("GaAs,GaN", "comma-separated list"),
        ("heavy water", "That is a name: give H2O."),
        ("", "it is empty"),
        ("Fe" * 300, "it is too long"),
        ("Fe0", "has the number 0"),
        ("(Fe", "a bracket ')' is missing"),
        ("Fe)", "the bracket ')' closes nothing"),
        ("Fe(O]", "the bracket ']' closes nothing"),
        ("Fe()2", "the bracket ')' closes nothing"),
        ("Al(1-x)", "the number 1 follows no element or group"),
        ("Xx2", "'Xx' is no element"),
        ("12", "there is no element in it"),
    ],
)
def test_what_is_no_formula_is_refused_with_the_reason(text, message):
    with pytest.raises(ToolError) as refusal:
        parse_formula(text)
    assert message in str(refusal.value)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused(text):
    try:
        atoms = parse_formula(text)
    except ToolError:
        return
    assert atoms
    assert all(amount > 0 for amount in atoms.values())


@given(compositions)
def test_a_written_composition_comes_back(composition):
    assert parse_formula(written(composition)) == composition


@given(compositions, st.integers(1, 30))
def test_the_key_does_not_change_with_scale_or_order(composition, times):
    key = reduced(written(composition))
    scaled = {element: count * times for element, count in composition.items()}
    backwards = dict(reversed(composition.items()))
    assert reduced(written(scaled)) == reduced(written(backwards)) == key
    assert reduced(f"({written(composition)}){times}") == key


@given(compositions)
def test_the_key_is_a_formula_in_lowest_terms(composition):
    key = reduced(written(composition))
    atoms = parse_formula(key)
    assert list(atoms) == sorted(composition)
    assert math.gcd(*(int(amount) for amount in atoms.values())) == 1
    assert reduced(key) == key


def test_decimals_become_whole_numbers():
    assert reduced("Ag0.5Ge1Pb1.75S4") == reduced("Ag2Ge4Pb7S16") == "Ag2Ge4Pb7S16"
    assert reduced("Al0.1In0.9P1") == "AlIn9P10"
    assert reduced("Fe0.333O") == "Fe333O1000"


def test_the_chemical_system_is_sorted():
    assert chemsys("TiO2") == "O-Ti"
    assert chemsys("D2O") == "H-O"


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("water", "H2O"),
        ("Heavy Water", "H2O"),
        ("gallium arsenide", "GaAs"),
        ("gallium-arsenide", "GaAs"),
        ("boron nitride", "BN"),
        ("aluminum oxide", "Al2O3"),
        ("zinc sulphide", "ZnS"),
        ("magnesium fluoride", "MgF2"),
        ("silicon carbide", "SiC"),
        ("diamond", "C"),
        ("titanium dioxide", "TiO2"),
        ("molybdenum disulfide", "MoS2"),
        ("vanadium pentoxide", "V2O5"),
        ("antimony trioxide", "Sb2O3"),
        ("tungsten trioxide", "WO3"),
        ("carbon monoxide", "CO"),
        ("lithium iron phosphate", "LiFePO4"),
        ("iron", "Fe"),
        ("tin", "Sn"),
        ("Tin", "Sn"),
        ("TiN", None),
        ("GaAs", None),
        ("iron oxide", None),
        ("gallium selenide telluride", None),
        ("the answer", None),
    ],
)
def test_a_name_stands_for_one_formula_or_none(name, formula):
    assert from_name(name) == formula


def test_every_named_formula_is_a_formula():
    from ragkit.agents.materials.chemistry import names

    for formula in names._SUBSTANCES.values():
        assert reduced(formula)


@pytest.mark.parametrize(
    ("text", "symbol"), [("Fe", "Fe"), ("iron", "Fe"), ("FE", "Fe"), ("D", "H")]
)
def test_an_element_is_known_by_symbol_and_name(text, symbol):
    assert element_symbol(text) == symbol


def test_an_unknown_element_is_refused():
    with pytest.raises(ToolError, match=r"'Xx' is no chemical element.*Give a symbol such as Fe"):
        element_symbol("Xx")


@pytest.mark.parametrize(
    ("text", "known", "expected"),
    [
        ("GaAS", ["BaTiO3", "GaN", "GaAs"], ["GaAs", "GaN"]),
        ("SIC", ["SC", "SiC", "NaCl"], ["SiC", "SC"]),
        ("BaTi03", ["BaTiO3", "BaS"], ["BaTiO3"]),
        ("Fe2O4", ["Fe3O4", "Fe2O3", "Fe4O6", "ZnO"], ["Fe2O3", "Fe3O4"]),
        ("NaCl", ["MgO"], []),
        ("%%%", ["MgO"], []),
    ],
)
def test_suggestions_are_near_and_name_a_composition_once(text, known, expected):
    assert suggest(text, known) == expected


def test_space_groups_have_symbols_systems_and_point_groups():
    assert [space_group_symbol(n) for n in (1, 14, 62, 194, 216, 225, 230)] == [
        "P1", "P2_1/c", "Pnma", "P6_3/mmc", "F-43m", "Fm-3m", "Ia-3d",
    ]  # fmt: skip
    assert [crystal_system(n) for n in (2, 15, 16, 75, 143, 168, 195)] == [
        "Triclinic", "Monoclinic", "Orthorhombic", "Tetragonal", "Trigonal", "Hexagonal", "Cubic",
    ]  # fmt: skip
    assert len({point_group(n) for n in range(1, 231)}) == 32
    with pytest.raises(ValueError, match="there is no space group 231"):
        space_group_symbol(231)
