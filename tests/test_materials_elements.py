"""Facts of elements, and arithmetic of formulas."""

import json
import os
from pathlib import Path

import pytest

from ragkit.agents.ledger import Ledger
from ragkit.agents.materials.chemistry.elements import element_tools
from ragkit.agents.materials.chemistry.names import ELEMENTS
from ragkit.agents.materials.crystals.structures import formula_facts
from ragkit.agents.tools import ToolError, run_tool, tool
from ragkit.agents.units import parse_unit

pytest.importorskip("pymatgen.core", reason="needs the extra materials")

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
(ELEMENT,) = element_tools()


def facts(name, **arguments):
    outcome = run_tool(ELEMENT, {"name": name} | arguments, Ledger())
    assert not outcome.error, outcome.error
    return {row.property: row for row in outcome.result.evidence}


# By hand, from the CRC Handbook and NIST.
@pytest.mark.parametrize(
    ("name", "fact", "value", "unit"),
    [
        ("Fe", "atomic_number", 26, ""),
        ("iron", "melting_point", 1811, "K"),
        ("Fe", "density_of_solid", 7.874, "g/cm**3"),
        ("FE", "group", 8, ""),
        ("Ce", "period", 6, ""),
        ("U", "period", 7, ""),
        ("hydrogen", "ionization_energy", 13.598, "eV"),
        ("Fe", "ionization_energy", 7.902, "eV"),
        ("fluorine", "electronegativity", 3.98, ""),
        ("Al", "boiling_point", 2792, "K"),
        ("Au", "atomic_mass", 196.967, "amu"),
        ("sulphur", "atomic_number", 16, ""),
        ("Si", "electronic_structure", "[Ne] 3s2 3p2", ""),
        ("O", "common_oxidation_states", "-2", ""),
        ("Fe", "common_oxidation_states", "+2, +3", ""),
        ("W", "youngs_modulus", 411, "GPa"),
    ],
)
def test_element_then_the_fact_is_the_known_one(name, fact, value, unit):
    (row,) = facts(name, property=fact).values()
    assert row.value == (value if isinstance(value, str) else pytest.approx(value, rel=5e-3))
    assert row.unit == unit
    assert row.property == fact
    assert row.source == "pymatgen table of the elements"
    assert row.version.startswith("pymatgen-core ")


def test_element_without_a_property_then_all_and_what_is_missing():
    outcome = run_tool(ELEMENT, {"name": "He"}, Ledger())
    held = {row.property for row in outcome.result.evidence}
    assert {"atomic_number", "melting_point", "boiling_point"} <= held
    assert "electronegativity" in outcome.result.text
    assert "electronegativity" not in held


def test_element_of_the_f_block_then_it_has_no_group():
    assert "group" not in facts("Ce")
    assert facts("Hf")["group"].value == 4


@pytest.mark.parametrize(
    ("name", "symbol", "mass"), [("D", "D", 2.014102), ("tritium", "T", 3.016049)]
)
def test_element_of_an_isotope_then_only_what_it_shares_with_hydrogen(name, symbol, mass):
    held = facts(name)
    assert held["atomic_mass"].value == pytest.approx(mass, abs=1e-6)
    assert held["atomic_mass"].source.startswith("AME2020")
    assert held["atomic_number"].value == 1
    assert held["group"].subject == symbol
    assert "melting_point" not in held
    error = run_tool(ELEMENT, {"name": name, "property": "melting_point"}, Ledger()).error
    assert "differs between isotopes" in error


def test_element_that_sublimes_then_the_method_says_so():
    assert "sublimes" in facts("As")["boiling_point"].method
    assert "sublimes" not in facts("Fe")["boiling_point"].method


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": "Xx"}, "no chemical element"),
        ({"name": "irn"}, "no chemical element"),
        ({"name": ""}, "no chemical element"),
        ({"name": "GaAs"}, "no chemical element"),
        ({"name": "Fe", "property": "colour"}, "property"),
        ({"name": "Cu", "property": "boiling_point"}, "tables disagree"),
        ({"name": "Og", "property": "melting_point"}, "the table has no value"),
    ],
)
def test_element_when_unknown_then_says_what_to_change(arguments, said):
    assert said in run_tool(ELEMENT, arguments, Ledger()).error


def test_element_of_every_symbol_then_units_parse_and_rows_are_complete():
    for symbol, name in ELEMENTS.items():
        rows = facts(symbol)
        assert rows == facts(name)
        for row in rows.values():
            parse_unit(row.unit)
            assert row.subject == symbol
            assert row.value == row.value  # not NaN
    assert len({facts(symbol)["atomic_number"].value for symbol in ELEMENTS}) == 118


@pytest.mark.reference
def test_element_agrees_with_another_table():
    path = DATA / "periodic_table" / "PeriodicTableJSON.json"
    if not path.is_file():
        pytest.skip(f"no data folder at {DATA} (set RAGKIT_DATA)")
    rows = {each["symbol"]: each for each in json.loads(path.read_text())["elements"]}
    names = {"melt": "melting_point", "boil": "boiling_point", "atomic_mass": "atomic_mass"}
    names |= {"electronegativity_pauling": "electronegativity"}
    compared, differing = 0, []
    for symbol in list(ELEMENTS)[:96]:
        held = facts(symbol)
        for key, fact in names.items():
            if rows[symbol].get(key) is None or fact not in held:
                continue
            compared += 1
            if held[fact].value != pytest.approx(rows[symbol][key], rel=0.05):
                differing.append((symbol, fact, held[fact].value, rows[symbol][key]))
    assert compared > 340
    assert len(differing) <= 0.06 * compared, differing
    assert not [each for each in differing if each[1] == "atomic_mass"]


def test_formula_facts_then_as_by_hand():
    rows = {row.property: row for row in formula_facts("Ca2(OH)4").evidence}
    mass = 2 * (40.078 + 2 * (15.9994 + 1.00794))
    assert rows["molar_mass"].value == pytest.approx(mass, rel=1e-5)
    assert rows["molar_mass"].unit == "g/mol"
    assert rows["reduced_formula"].value == "CaH2O2"
    assert rows["formula_units"].value == 2
    assert rows["atoms"].value == 10
    assert rows["mass_fraction.Ca"].value == pytest.approx(2 * 40.078 / mass, rel=1e-5)
    assert rows["atom_fraction.O"].value == pytest.approx(0.4)
    assert rows["atoms"].subject == "Ca2(OH)4"


def test_formula_facts_when_no_formula_then_tool_error():
    with pytest.raises(ToolError):
        formula_facts("not a formula")
    assert tool(formula_facts).name == "formula_facts"
