"""Crystal structures: reading, editing, voids, fingerprints, and the tools over them."""

import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke

from ragkit.agents.ledger import Ledger
from ragkit.agents.materials.crystals import cells
from ragkit.agents.materials.crystals.similarity import (
    DIMENSION,
    dissimilarity,
    fingerprint,
    nearest,
    similarity_tools,
    structure_fingerprint,
)
from ragkit.agents.materials.crystals.structures import NOT_RELAXED, structure_tools
from ragkit.agents.materials.crystals.voids import largest_void
from ragkit.agents.tools import ToolError, run_tool

core = pytest.importorskip("pymatgen.core", reason="needs the extra materials")

DATA = Path(os.environ.get("RAGKIT_DATA", Path(__file__).parents[2] / "shared" / "data"))
FILES = sorted((DATA / "structures").glob("*/*.cif")) + sorted(
    (DATA / "structures").glob("*/*.vasp")
)
needs_data = pytest.mark.skipif(not FILES, reason=f"no structures at {DATA} (set RAGKIT_DATA)")

FCC = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]])


def cubic(a, *groups):
    """POSCAR of a cubic cell: (element, positions) for each element."""
    lines = ["cubic", "1.0", f"{a} 0 0", f"0 {a} 0", f"0 0 {a}"]
    lines += [
        " ".join(element for element, _ in groups),
        " ".join(str(len(positions)) for _, positions in groups),
        "direct",
    ]
    lines += [" ".join(f"{x:.8f}" for x in place) for _, places in groups for place in places]
    return "\n".join(lines) + "\n"


SHIFT = np.array([0.5, 0.5, 0.5])
NACL = cubic(5.64, ("Na", FCC), ("Cl", (FCC + SHIFT) % 1))
MGO = cubic(4.21, ("Mg", FCC), ("O", (FCC + SHIFT) % 1))
DIAMOND = cubic(3.567, ("C", np.vstack([FCC, FCC + 0.25])))
ZINCBLENDE = cubic(5.65, ("Ga", FCC), ("As", FCC + 0.25))
COPPER = cubic(3.61, ("Cu", FCC))
IRON = cubic(2.87, ("Fe", [[0, 0, 0], [0.5, 0.5, 0.5]]))
CSCL = cubic(4.12, ("Cs", [[0, 0, 0]]), ("Cl", [[0.5, 0.5, 0.5]]))
POLONIUM = cubic(3.35, ("Po", [[0, 0, 0]]))
HELD = {"mp-22862": NACL, "mp-66": DIAMOND, "mp-30": COPPER, "mp-13": IRON, "mp-2534": ZINCBLENDE}


class Held:
    """A back end that has structures and nothing else."""

    name = "snapshot"
    version = "2026.1"

    def structure(self, material_id):
        return HELD.get(material_id)

    def similar(self, material_id, limit):
        return [("mp-1265", "MgO", 0.0), ("mp-13", "Fe", 0.25)][:limit]


TOOLS = {each.name: each for each in [*structure_tools(Held()), *similarity_tools(Held())]}


def call(name, **arguments):
    outcome = run_tool(TOOLS[name], arguments, Ledger())
    assert not outcome.error, outcome.error
    return outcome.result


def fails(name, **arguments):
    outcome = run_tool(TOOLS[name], arguments, Ledger())
    assert outcome.result is None
    return outcome.error


def test_cell_facts_of_rock_salt_then_as_by_hand():
    facts = cells.cell_facts(cells.read_structure(NACL))
    mass = 4 * (22.98977 + 35.453) * 1.66053907  # 1e-24 g
    assert facts.formula == "NaCl"
    assert (facts.a, facts.alpha, facts.nsites) == (5.64, 90.0, 8)
    assert facts.volume == pytest.approx(5.64**3)
    assert facts.density == pytest.approx(mass / 5.64**3, rel=1e-4)
    assert (facts.space_group, facts.space_group_number) == ("Fm-3m", 225)


@pytest.mark.parametrize(
    ("poscar", "group"),
    [(DIAMOND, 227), (ZINCBLENDE, 216), (COPPER, 225), (IRON, 229), (CSCL, 221), (POLONIUM, 221)],
)
def test_cell_facts_then_the_space_group_is_the_known_one(poscar, group):
    assert cells.cell_facts(cells.read_structure(poscar)).space_group_number == group


@pytest.mark.parametrize("format", ["poscar", "cif"])
def test_write_structure_then_it_reads_back(format):
    structure = cells.read_structure(ZINCBLENDE)
    text = cells.write_structure(structure, format, "one\nline")
    assert text.splitlines()[0].endswith("one line")
    again = cells.read_structure(text)
    assert again.matches(structure)
    assert len(again) == 8
    assert cells.write_structure(again, format, "one\nline") == text


CIF_HEAD = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
"""
CIF_SITES = """loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
"""
HEAD = "x\n1.0\n4 0 0\n0 4 0\n0 0 4\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no structure file"),
        ("hello\nworld", "no structure file"),
        ("x" * 1_000_001, "1,000,001 characters"),
        (HEAD + "Na Cl\n1 999999\ndirect\n0 0 0\n", "1,000,000 sites"),
        (HEAD + "Na\n99999999999999\ndirect\n0 0 0\n", "count for each element"),
        (HEAD + "1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n\n", "line 6 names the elements"),
        (HEAD + "Na Xx\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n", "line 6 names the elements"),
        (HEAD + "Na\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n", "count for each element"),
        (HEAD + "Na Cl\n1 1\ndirect\n0 0 0\n0 0 0.01\n", "angstrom apart"),
        (HEAD + "Na Cl\n1 1\ndirect\n0 0 0\nnan 0 0\n", "finite|broken POSCAR"),
        (HEAD + "Na Cl\n2 2\ndirect\n0 0 0\n0.5 0.5 0.5\n", "broken POSCAR"),
        (HEAD + "Na\n1\ndirect\n1e400 0 0\n", "finite|broken POSCAR"),
        ("x\n1.0\n4 0 0\n0 4 0\n4 4 0\nNa\n1\ndirect\n0 0 0\n", "volume|broken POSCAR"),
        ("x\n0\n4 0 0\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 0 0\n", "scale and three"),
        ("x\n1\n4 0 0\n0 4 0\n0 0 inf\nNa\n1\ndirect\n0 0 0\n", "scale and three"),
        ("x\n1\n4 0 zero\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 0 0\n", "broken POSCAR"),
        ("x\n1\n4000 0 0\n0 4 0\n0 0 4\nNa\n1\ndirect\n0 0 0\n", "1000 angstrom"),
        (CIF_HEAD, "0 sites"),
        (CIF_HEAD + CIF_SITES + "Na Na 0 0 0 0.5\n", "disordered"),
        (CIF_HEAD + CIF_SITES + "Q Qq 0 0 0 1\n", "broken"),
        (CIF_HEAD + CIF_SITES + "Na Na ? . 0 1\n", "broken|disordered"),
        (CIF_HEAD + CIF_SITES + "Na Na 0 0 0 1\n" * 5001, "5,001 sites"),
        ("data_x\nloop_\n_a\n;unfinished\n", "broken CIF"),
    ],
)
def test_read_structure_when_the_file_is_broken_then_a_short_tool_error(text, said):
    with pytest.raises(ToolError) as caught:
        cells.read_structure(text)
    assert any(each in str(caught.value) for each in said.split("|")), str(caught.value)
    assert len(str(caught.value)) < 300


LONG = [
    "loop_\n" * 150_000,
    "data_" + "'" * 900_000,
    "data_x\n" + ";\n" * 400_000,
    CIF_HEAD
    + "loop_\n_symmetry_equiv_pos_as_xyz\n"
    + "'x,y,z'\n" * 5000
    + CIF_SITES
    + "Na Na 0 0 0 1\n" * 4000,
    HEAD + "Na\n5000\ndirect\n" + "0 0 0\n" * 5000,
]


@pytest.mark.parametrize("text", smoke(LONG), ids=range(len(LONG)))
def test_read_structure_when_the_file_is_hostile_then_soon_over(text):
    started = time.perf_counter()
    with pytest.raises(ToolError):
        cells.read_structure(text)
    assert time.perf_counter() - started < 20


def test_read_structure_of_a_cif_with_a_block_without_sites_then_the_other_is_read():
    text = "data_global\n_journal_year 2000\n" + CIF_HEAD + CIF_SITES + "Na Na 0 0 0 1\n"
    assert cells.read_structure(text).composition.formula == "Na1"


@given(st.text(max_size=200))
@examples(60)
def test_read_structure_with_any_text_then_a_tool_error(text):
    with pytest.raises(ToolError):
        cells.read_structure(text)


@given(st.data())
@examples(60)
def test_read_structure_with_a_damaged_file_then_a_structure_or_a_tool_error(data):
    text = data.draw(st.sampled_from([NACL, CIF_HEAD + CIF_SITES + "Na Na 0 0 0 1\n"]))
    at = data.draw(st.integers(0, len(text) - 1))
    text = text[:at] + data.draw(st.text(max_size=3)) + text[at + data.draw(st.integers(0, 9)) :]
    try:
        structure = cells.read_structure(text)
    except ToolError:
        return
    assert np.isfinite(structure.volume)


@needs_data
@pytest.mark.reference
def test_read_structure_then_agrees_with_gemmi_and_spglib():
    gemmi = pytest.importorskip("gemmi", reason="the oracle gemmi is not installed")
    for file in (each for each in FILES if each.suffix == ".cif" and "cod" in str(each)):
        structure = cells.read_structure(file.read_text())
        small = gemmi.read_small_structure(str(file))
        sites = small.get_all_unit_cell_sites()
        counts = {}
        for site in sites:
            counts[site.element.name] = counts.get(site.element.name, 0) + 1
        assert counts == {k: int(v) for k, v in structure.composition.as_dict().items()}, file
        assert structure.volume == pytest.approx(small.cell.volume, rel=1e-6)
        by_file = gemmi.find_spacegroup_by_name(small.spacegroup_hm)
        if by_file is not None and "9000046" not in file.name:  # given in a subgroup there
            assert cells.cell_facts(structure).space_group_number == by_file.number, file


@needs_data
def test_read_structure_of_all_files_then_they_read_write_and_measure():
    for file in FILES:
        structure = cells.read_structure(file.read_text())
        facts = cells.cell_facts(structure)
        assert 1 <= facts.space_group_number <= 230
        for format in ("poscar", "cif"):
            again = cells.read_structure(cells.write_structure(structure, format))
            assert again.volume == pytest.approx(structure.volume, rel=1e-6)
            assert again.composition == structure.composition


@given(st.tuples(*[st.integers(1, 3)] * 3), st.sampled_from(list(HELD.values())))
@examples(20)
def test_supercell_then_volume_and_sites_scale_and_density_stays(times, poscar):
    structure = cells.read_structure(poscar)
    larger = cells.supercell(structure, *times)
    assert len(larger) == len(structure) * math.prod(times)
    assert larger.volume == pytest.approx(structure.volume * math.prod(times))
    assert larger.density == pytest.approx(structure.density)
    assert larger.lattice.a == pytest.approx(structure.lattice.a * times[0])
    assert len(structure) == len(cells.read_structure(poscar))  # the original is as it was


def test_supercell_when_too_large_then_tool_error():
    with pytest.raises(ToolError, match="8,000; 1 to 2,000"):
        cells.supercell(cells.read_structure(NACL), 10, 10, 10)


# Hand values: sqrt(3)/4 a (tetrahedral), a/2 (octahedral), sqrt(5)/4 a (bcc tetrahedral).
@pytest.mark.parametrize(
    ("poscar", "place", "distance"),
    [
        (POLONIUM, [0.5, 0.5, 0.5], 3.35 * math.sqrt(3) / 2),
        (COPPER, [0, 0, 0.5], 3.61 / 2),
        (IRON, [0, 0.25, 0.5], 2.87 * math.sqrt(5) / 4),
        (NACL, [0.25, 0.25, 0.25], 5.64 * math.sqrt(3) / 4),
        (DIAMOND, [0, 0, 0.5], 3.567 * math.sqrt(3) / 4),
        (CSCL, [0, 0.25, 0.5], 4.12 * math.sqrt(5) / 4),
    ],
)
def test_largest_void_then_as_by_hand(poscar, place, distance):
    structure = cells.read_structure(poscar)
    found, gap = largest_void(structure.lattice.matrix, structure.frac_coords)
    assert gap == pytest.approx(distance, abs=1e-4)
    assert found == pytest.approx(place, abs=1e-4)


def test_largest_void_in_the_primitive_cell_then_the_same_room():
    primitive = cells.read_structure(NACL).get_primitive_structure()
    assert len(primitive) == 2
    _, gap = largest_void(primitive.lattice.matrix, primitive.frac_coords)
    assert gap == pytest.approx(5.64 * math.sqrt(3) / 4, abs=1e-4)


@given(st.integers(0, 10**6), st.integers(1, 6))
@examples(30)
def test_largest_void_then_no_random_point_has_more_room(seed, n_atoms):
    rng = np.random.default_rng(seed)
    lattice = core.Lattice.from_parameters(*rng.uniform(2, 9, 3), *rng.uniform(55, 115, 3))
    atoms = rng.random((n_atoms, 3))
    if not np.isfinite(lattice.matrix).all() or lattice.volume < 2:
        return
    place, gap = largest_void(lattice.matrix, atoms)
    assert lattice.get_all_distances(place, atoms).min() == pytest.approx(gap, abs=1e-4)
    others = lattice.get_all_distances(rng.random((500, 3)), atoms).min(axis=1)
    assert others.max() <= gap + 1e-4


def test_largest_void_of_a_needle_then_tool_error():
    with pytest.raises(ToolError, match="too flat"):
        largest_void(np.diag([2.0, 2.0, 900.0]), np.zeros((1, 3)))


@needs_data
def test_fingerprint_then_cell_origin_and_orientation_do_not_matter():
    rng = np.random.default_rng(0)
    for file in FILES[::8]:
        structure = cells.read_structure(file.read_text())
        first = structure_fingerprint(structure)
        moved = cells.supercell(structure, 2, 1, 2)
        moved.translate_sites(range(len(moved)), rng.random(3))
        q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        turned = core.Structure(moved.lattice.matrix @ q, moved.species, moved.frac_coords)
        assert dissimilarity(first, structure_fingerprint(turned)) < 1e-6, file
        assert (first.shape, first.dtype) == ((DIMENSION,), np.float32)
        assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-5)


def test_fingerprint_then_types_count_and_substances_do_not():
    prints = {
        name: fingerprint(text)
        for name, text in {
            "NaCl": NACL,
            "MgO": MGO,
            "C": DIAMOND,
            "GaAs": ZINCBLENDE,
            "Po": POLONIUM,
            "Cu": COPPER,
        }.items()
    }
    to_salt = {name: dissimilarity(prints["NaCl"], each) for name, each in prints.items()}
    assert to_salt["MgO"] < 1e-6
    assert to_salt["C"] > 0.1
    assert to_salt["Po"] > 0.01  # simple cubic but for the second element
    assert dissimilarity(prints["C"], prints["GaAs"]) > 0.01


@needs_data
def test_fingerprint_in_float16_then_distances_hardly_change():
    prints = np.array([fingerprint(file.read_text()) for file in FILES])
    short = prints.astype(np.float16)
    for i, each in enumerate(prints):
        full = dict(nearest(each, prints, [str(n) for n in range(len(prints))], limit=99))
        half = dict(nearest(short[i], short, [str(n) for n in range(len(prints))], limit=99))
        assert all(abs(full[key] - half[key]) < 1e-3 for key in full)


def test_nearest_then_ties_by_id_and_itself_left_out():
    vectors = np.eye(3, DIMENSION, dtype=np.float32)[[0, 1, 1, 2]]
    found = nearest(vectors[0], vectors, ["d", "c", "b", "a"], limit=2, leave_out="d")
    assert found == [("a", 0.5), ("b", 0.5)]
    with pytest.raises(ValueError, match="2 ids for 4"):
        nearest(vectors[0], vectors, ["a", "b"])


def test_structure_tools_then_files_are_direct_and_descriptions_short():
    assert {name for name, each in TOOLS.items() if each.direct} == {
        "get_structure",
        "make_supercell",
        "substitute",
        "add_interstitial",
    }
    for each in TOOLS.values():
        assert len(each.description.split()) <= 16
        for about in each.parameters()["properties"].values():
            assert len(about["description"].split()) <= 10


def test_get_structure_then_the_file_names_the_material():
    poscar = call("get_structure", material_id=" mp-22862 ").text
    assert poscar.splitlines()[0] == "NaCl mp-22862"
    assert cells.read_structure(poscar).matches(cells.read_structure(NACL))
    assert call("get_structure", material_id="mp-22862", format="cif").text.startswith("# NaCl")


@pytest.mark.parametrize("name", ["get_structure", "structure_facts"])
def test_tools_when_no_structure_is_held_then_say_so(name):
    assert "no structure is held for 'mp-0'" in fails(name, material_id="mp-0")


def test_structure_facts_then_rows_have_unit_and_origin():
    rows = {row.property: row for row in call("structure_facts", material_id="mp-13").evidence}
    assert list(rows) == [
        *("a", "b", "c", "alpha", "beta", "gamma", "volume", "density", "nsites"),
        *("space_group", "space_group_number"),
    ]
    assert (rows["volume"].value, rows["volume"].unit) == (pytest.approx(2.87**3), "angstrom**3")
    assert rows["a"].method == "computed from the structure"
    assert rows["space_group"].value == "Im-3m"
    assert "spglib" in rows["space_group"].method
    assert (rows["a"].subject, rows["a"].subject_id, rows["a"].version) == (
        "Fe",
        "mp-13",
        "2026.1",
    )


def test_make_supercell_then_a_labelled_file_without_a_material_id():
    result = call("make_supercell", material_id="mp-22862", a=2, b=1, c=1)
    rows = {row.property: row for row in result.evidence}
    assert rows["nsites"].value == 16
    assert rows["a"].value == pytest.approx(11.28)
    assert all(row.subject_id is None and NOT_RELAXED in row.method for row in result.evidence)
    assert result.text.splitlines()[0].endswith(NOT_RELAXED)
    assert len(cells.read_structure(result.text)) == 16
    assert "less than or equal to 10" in fails(
        "make_supercell", material_id="mp-13", a=11, b=1, c=1
    )
    error = fails("make_supercell", material_id="mp-13", a=0, b=1, c=1)
    assert "greater than or equal to 1" in error


def test_substitute_then_the_formula_changes():
    whole = call("substitute", material_id="mp-2534", from_element="gallium", to_element="Al")
    assert whole.evidence[0].subject == "AlAs"
    assert whole.evidence[0].variant == "F-43m"
    half = call(
        "substitute", material_id="mp-2534", from_element="Ga", to_element="Al", fraction=0.5
    )
    assert half.evidence[0].subject == "AlGaAs2"
    assert "others are possible" in half.evidence[0].method


def test_substituted_in_part_then_the_sites_are_far_apart():
    chain = cells.supercell(cells.read_structure(POLONIUM), 4, 1, 1)
    made, count = cells.substituted(chain, "Po", "Te", 0.5)
    replaced = [site.frac_coords[0] for site in made if site.specie.symbol == "Te"]
    assert count == 2
    assert abs(replaced[0] - replaced[1]) == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"from_element": "K", "to_element": "Al"}, "no K in it. It has: As, Ga"),
        ({"from_element": "Ga", "to_element": "Ga"}, "by itself"),
        ({"from_element": "Ga", "to_element": "Qx"}, "no chemical element"),
        ({"from_element": "Ga", "to_element": "Al", "fraction": 0.3}, "multiple of 1/4"),
        ({"from_element": "Ga", "to_element": "Al", "fraction": 1.5}, "fraction"),
    ],
)
def test_substitute_when_impossible_then_says_why(arguments, said):
    assert said in fails("substitute", material_id="mp-2534", **arguments)


def test_add_interstitial_then_in_the_largest_void():
    result = call("add_interstitial", material_id="mp-66", element="Li")
    rows = {row.property: row for row in result.evidence}
    gap = rows["distance_to_nearest_atom"]
    assert (gap.value, gap.unit) == (pytest.approx(3.567 * math.sqrt(3) / 4, abs=1e-4), "angstrom")
    assert gap.subject == "LiC8"
    assert "0.0000 0.0000 0.5000 (the largest void)" in gap.method
    assert NOT_RELAXED in result.text
    assert len(cells.read_structure(result.text)) == 9


def test_add_interstitial_at_a_position_then_there():
    result = call("add_interstitial", material_id="mp-66", element="Li", position="1.5, -0.5 0.5")
    assert "0.5000 0.5000 0.5000 (the given position)" in result.evidence[0].method
    for position, said in {
        "0 0 0": "from an atom",
        "0 0": "is no position",
        "a b c": "is no position",
        "nan 0 0": "is no position",
    }.items():
        assert said in fails(
            "add_interstitial", material_id="mp-66", element="Li", position=position
        )


def test_similar_structures_then_rows_name_the_materials():
    result = call("similar_structures", material_id="mp-22862", limit=1)
    (row,) = result.evidence
    assert (row.subject_id, row.subject, row.value) == ("mp-1265", "MgO", 0.0)
    assert row.property == "dissimilarity"
    assert "mp-22862" in row.method
