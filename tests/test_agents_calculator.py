"""Units, expressions and the calculator's tools."""

import contextlib
import json
import math
import random
import threading
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.agents.calculator import calculator_tools
from ragkit.agents.expressions import evaluate
from ragkit.agents.ledger import Ledger, Quantity, Quote
from ragkit.agents.tools import ToolError, ToolResult, run_tool
from ragkit.agents.units import convert, format_unit, parse_unit
from ragkit.types import Citation

TOOLS = {each.name: each for each in calculator_tools()}


def gap(value, formula="GaAs", material_id="mp-2534", unit="eV", **more):
    values = {"source": "MP", "licence": "CC BY 4.0", "variant": "F-43m"} | more
    return Quantity(value, unit, "band_gap", formula, material_id, **values)


@pytest.fixture
def ledger():
    held = Ledger()
    held.add([gap(1.5), gap(3.2, "GaN", "mp-804"), gap(500, "Ge", "mp-32", "meV")], "gaps", {})
    held.add([Quantity(76, "GPa", "k_vrh", "GaAs", "mp-2534", source="MP")], "elasticity", {})
    held.add([Quantity("FM", "", "ordering", "Fe"), Quantity("AFM", "", "ordering", "Cr")], "m", {})
    held.add([Quantity("FM", "", "ordering", "Co")], "m", {})
    held.add(
        [Quote("It conducts.", (Citation("d", "d:0", 0, 12, "It conducts.", ""),))], "read", {}
    )
    return held


def call(name, ledger, **arguments):
    outcome = run_tool(TOOLS[name], arguments, ledger)
    assert not outcome.error, outcome.error
    return outcome.result


def fails(name, ledger, **arguments):
    outcome = run_tool(TOOLS[name], arguments, ledger)
    assert outcome.result is None
    return outcome.error


# Reference values: CODATA 2018 and the definitions of the units.
@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (1, "eV/atom", "kJ/mol", 96.48533212331),
        (-46.0, "kJ/mol", "eV/atom", -0.476756),
        (1, "eV/atom", "kcal/mol", 23.0605478),
        (1, "eV", "kJ", 1.602176634e-22),
        (1, "hartree", "eV", 27.211386245988),
        (1, "Mbar", "GPa", 100),
        (1, "GPa", "psi", 145037.737730),
        (1, "eV/angstrom**3", "GPa", 160.2176634),
        (1, "angstrom**3", "nm**3", 1e-3),
        (5.3, "g/cm**3", "kg/m**3", 5300),
        (1, "C/m**2", "uC/cm^2", 100),
        (1, "bohr_magneton/f.u.", "μB/fu", 1),
        (1, "amu/atom", "g/mol", 0.99999999965),
        (25, "degC", "K", 298.15),
        (180, "degree", "radian", math.pi),
        (5, "%", "", 0.05),
        (1, "cm-1", "1/nm", 1e-7),
    ],
)
def test_convert_when_the_dimension_is_the_same_then_matches_the_constants(
    value, unit, to, expected
):
    assert convert(value, unit, to) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize(
    ("value", "unit", "to", "expected"),
    [
        (1, "eV", "nm", 1239.841984),
        (500, "nm", "eV", 2.479683968),
        (1, "THz", "1/cm", 33.3564095),
        (1, "THz", "meV", 4.135667696),
        (100, "1/cm", "meV", 12.39841984),
        (500, "nm", "1/cm", 20000),
        (3, "eV", "meV", 3000),
    ],
)
def test_convert_in_spectroscopy_then_photon_relations_hold(value, unit, to, expected):
    assert convert(value, unit, to, context="spectroscopy") == pytest.approx(expected, rel=1e-8)
    if unit != "eV" or to != "meV":
        with pytest.raises(ToolError, match="context spectroscopy"):
            convert(value, unit, to)


@pytest.mark.parametrize(
    ("unit", "to", "said"),
    [
        ("eV", "eV/atom", "per atom or mole"),
        ("eV/atom", "eV/formula_unit", "several atoms"),
        ("kJ/mol", "eV/f.u.", "several atoms"),
        ("THz", "rad/s", "2 pi"),
        ("GPa", "K", r"cannot become K \(\[temperature\]\). Units for it: GPa, Mbar"),
        ("gpa", "Pa", "Did you mean GPa"),
        ("mev", "eV", "Did you mean meV or MeV"),
        ("eV", "9**9**9", "no unit"),
        ("eV", "(m**9)**9", "no unit"),
        ("eV", "m**1e9", "no unit"),
        ("eV", "eV(", "no unit"),
        ("eV", "__import__('os')", "no unit"),
        ("eV", "x" * 5000, "no unit"),
        ("eV", "2 meV", "no unit"),
    ],
)
def test_convert_when_it_is_impossible_then_says_why(unit, to, said):
    with pytest.raises(ToolError, match=said) as caught:
        convert(1.0, unit, to)
    assert len(str(caught.value)) < 400


def test_convert_when_the_context_or_wavelength_is_wrong_then_says_so():
    with pytest.raises(ToolError, match="no context"):
        convert(1.0, "eV", "nm", context="magic")
    with pytest.raises(ToolError, match="no wavelength"):
        convert(0.0, "eV", "nm", context="spectroscopy")
    with pytest.raises(ToolError, match="cannot become"):
        convert(1.0, "GPa", "nm", context="spectroscopy")


SAME = [
    ["eV", "meV", "kJ", "hartree"],
    ["eV/atom", "kJ/mol", "meV/atom"],
    ["GPa", "Mbar", "psi", "eV/angstrom**3"],
    ["angstrom**3", "nm**3", "bohr**3"],
    ["K", "degC"],
]


@given(st.sampled_from(SAME), st.data(), st.floats(-1e6, 1e6))
def test_convert_there_and_back_then_gives_the_value(units, data, value):
    one, other = data.draw(st.sampled_from(units)), data.draw(st.sampled_from(units))
    back = convert(convert(value, one, other), other, one)
    assert back == pytest.approx(value, rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(st.sampled_from(["eV", "m", "atom", "K", "s"]), st.integers(-4, 4))))
def test_format_unit_then_parses_to_the_same_unit(parts):
    unit = parse_unit("1")
    for name, power in parts:
        unit *= parse_unit(name) ** power
    if all(abs(power) <= 12 for power in dict(unit._units).values()):
        assert parse_unit(format_unit(unit)) == unit


@given(st.text(max_size=30))
@examples(300)
def test_parse_unit_with_any_text_then_a_unit_or_a_tool_error(text):
    with contextlib.suppress(ToolError):
        parse_unit(text)


def test_convert_in_many_threads_then_contexts_do_not_leak():
    wrong = []

    def strict():
        for _ in range(100):
            try:
                wrong.append(convert(1, "eV", "nm"))
            except ToolError:
                continue

    def loose():
        for _ in range(100):
            convert(1, "eV", "nm", context="spectroscopy")

    threads = [threading.Thread(target=each) for each in (strict, loose, strict, loose)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


ROWS = {"r1": (3, ""), "r2": (0.25, ""), "r3": (1.5, "eV"), "r4": (500.0, "meV"), "r5": (2, "GPa")}


def value_of(text):
    found = evaluate(text, ROWS.__getitem__)
    return found.value, found.unit


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("r3 - r4", (1.0, "eV")),
        ("r4 - r3", (-1000.0, "meV")),
        ("(r3 + r4) / 2", (1.0, "eV")),
        ("3.2 GPa / 2", (1.6, "GPa")),
        ("r3 / r4", (3.0, "")),
        ("r3 * 2", (3.0, "eV")),
        ("sqrt(r3 * r3)", (1.5, "eV")),
        ("abs(r4 - r3)", (1000.0, "meV")),
        ("min(r3, r4, 1 eV)", (500.0, "meV")),
        ("max(r3, r4)", (1.5, "eV")),
        ("r3 / 3 eV/atom", (0.5, "atom")),
        ("6 eV / 3 eV", (2.0, "")),
        ("r5 * 10 angstrom**3", (20, "angstrom**3*GPa")),
        ("2 ** 3 ** 2", (512, "")),
        ("-r1 ** 2", (-9, "")),
        ("2^-1", (0.5, "")),
        ("2 cm^-1 * 3", (6, "1/cm")),
        ("90 degree * 2", (180, "deg")),
        ("100 * (r1 - r2) / r1", (pytest.approx(275 / 3), "")),
        ("5 % * 2", (0.1, "")),
        ("r1 - 1", (2, "")),
        ("1e3 meV + r3", (2500.0, "meV")),
        ("--r1", (3, "")),
    ],
)
def test_evaluate_then_value_and_unit_are_as_by_hand(text, expected):
    assert value_of(text) == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("r3 + r5", "eV and GPa do not go together"),
        ("r3 + 1", "eV and a plain number do not go together"),
        ("r3 / 0", "divides by zero"),
        ("r3 / (r1 - 3)", "divides by zero"),
        ("0 ** -1", "divides by zero"),
        ("9**9**9", "exponent"),
        ("((((9**10)**10)**10)**10)", "too large"),
        ("9999999999999999999999999 ** 10 ** 1", "too large"),
        ("1e200 * 1e200", "too large"),
        ("1e999", "too large"),
        ("sqrt(-2)", "negative"),
        ("r1 ** r3", "has eV"),
        ("25 degC + 3 degC", "convert to K"),
        ("90 degree + 1", "angle"),
        ("__import__('os')", "cannot be read"),
        ("exec(r1)", "no function 'exec'"),
        ("r1.real", "cannot be read"),
        ("r1 r2", "'r2' is not expected there"),
        ("r1 +", "ends too early"),
        ("(r1", r"a \) is missing"),
        ("r1)", "not expected"),
        ("", "ends too early"),
        ("eV", "no row and no number"),
        ("3 ev", "Did you mean eV"),
        ("sqrt(r1, r2)", "takes one value"),
        ("r1 if r2 else r3", "not expected"),
        ("(" * 30 + "r1" + ")" * 30, "nested deeper"),
        ("2**" * 60 + "1", "nested deeper|exponent"),
        ("1+" * 150 + "1", "longer than 200"),
        ("min()", "not expected"),
        ("r1 == r2", "cannot be read"),
    ],
)
def test_evaluate_when_it_cannot_then_says_what_to_change(text, said):
    with pytest.raises(ToolError, match=said):
        value_of(text)


LEAVES = st.one_of(
    st.integers(0, 50).map(str), st.floats(0.01, 50).map(lambda x: f"{x:.3f}"), st.just("r1")
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(
            lambda each: f"({each[0]} {each[1]} {each[2]})"
        ),
        inner.map(lambda each: f"-{each}"),
        inner.map(lambda each: f"abs({each})"),
        st.tuples(inner, st.integers(0, 3)).map(lambda each: f"({each[0]}) ** {each[1]}"),
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"max({', '.join(each)}, 1)"),
    ),
    max_leaves=6,
)


@given(TREES)
@examples(300)
def test_evaluate_with_plain_numbers_then_agrees_with_python(text):
    if len(text) > 200:
        return
    try:
        expected = eval(text, {"r1": 3, "abs": abs, "max": max})  # the oracle only
    except (ZeroDivisionError, OverflowError):
        with pytest.raises(ToolError):
            value_of(text)
        return
    if abs(expected) > 2**200:
        return
    assert value_of(text) == (expected, "")


@given(st.lists(st.sampled_from("+-*"), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_evaluate_with_integers_then_exact(signs, rng):
    numbers = [rng.randint(0, 10**6) for _ in range(len(signs) + 1)]
    text = str(numbers[0]) + "".join(
        f" {sign} {n}" for sign, n in zip(signs, numbers[1:], strict=True)
    )
    exact = eval(text)  # integers as Python has them
    if len(text) <= 200 and Fraction(exact).numerator.bit_length() < 250:
        assert value_of(text)[0] == exact


@given(st.text(alphabet="r123 +-*/^().,eEVGPatomsqrt%°", max_size=40))
@examples(400)
def test_evaluate_with_any_text_then_a_value_or_a_tool_error(text):
    rows = {**ROWS}

    def lookup(row):
        if row not in rows:
            raise ToolError(f"there is no row {row}")
        return rows[row]

    try:
        found = evaluate(text, lookup)
    except ToolError:
        return
    assert math.isfinite(found.value)


def test_calculator_tools_then_few_and_briefly_described():
    assert list(TOOLS) == ["convert_unit", "calculate", "compare", "rank", "average"]
    for each in TOOLS.values():
        assert each.wants_ledger
        assert len(each.description.split()) <= 20
        properties = each.parameters()["properties"]
        assert "ledger" not in properties
        assert all(len(about.get("description", "").split()) <= 10 for about in properties.values())


def test_calculator_tools_when_rows_are_held_then_the_schema_offers_them(ledger):
    properties = TOOLS["compare"].parameters(ledger)["properties"]
    assert properties["rows"]["items"] == {"enum": [f"r{n}" for n in range(1, 9)]}
    assert TOOLS["compare"].names_rows
    assert not TOOLS["calculate"].names_rows


def test_convert_unit_then_the_row_keeps_its_origin(ledger):
    result = call("convert_unit", ledger, row="r4", unit="Mbar")
    assert result.evidence == [
        Quantity(
            0.76,
            "Mbar",
            "k_vrh",
            "GaAs",
            "mp-2534",
            method="calculated: r4 converted to Mbar",
            source="MP",
            derived_from=("r4",),
        )
    ]


def test_convert_unit_between_atoms_and_moles_then_the_method_says_which_moles(ledger):
    ledger.add([Quantity(-1.0, "eV/atom", "formation_energy_per_atom", "GaN")], "thermo", {})
    row = call("convert_unit", ledger, row="r9", unit="kJ/mol").evidence[0]
    assert row.value == pytest.approx(-96.4853321)
    assert row.method == "calculated: r9 converted to kJ/mol (moles of atoms)"


def test_convert_unit_with_a_context_then_the_wavelength(ledger):
    assert "context spectroscopy" in fails("convert_unit", ledger, row="r1", unit="nm")
    row = call("convert_unit", ledger, row="r1", unit="nm", context="spectroscopy").evidence[0]
    assert (round(row.value, 2), row.unit) == (826.56, "nm")
    assert row.method.endswith("(spectroscopy)")


def test_calculate_then_names_rows_and_constants(ledger):
    result = call("calculate", ledger, expression="(r2 - r1) /  2")
    assert result.evidence == [
        Quantity(
            pytest.approx(0.85),
            "eV",
            "calculated",
            method="calculated: (r2 - r1) / 2; constants: 2",
            source="MP",
            licence="CC BY 4.0",
            derived_from=("r2", "r1"),
            variant="",
        )
    ]


def test_calculate_with_rows_of_one_material_then_it_is_kept_and_sources_joined(ledger):
    ledger.add([gap(1.42, source="Experiment; MP", licence="", method="experiment")], "x", {})
    row = call("calculate", ledger, expression="r9 - r1").evidence[0]
    assert (row.subject, row.subject_id, row.variant) == ("GaAs", "mp-2534", "F-43m")
    assert (row.source, row.licence) == ("Experiment; MP", "CC BY 4.0")
    assert row.derived_from == ("r9", "r1")


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("r5 * 2", "'FM', not a number"),
        ("r8 * 2", "quotation"),
        ("r77 + r1", "no row r77. Rows: r1"),
        ("r1 + r4", "do not go together"),
    ],
)
def test_calculate_with_rows_that_do_not_fit_then_says_so(ledger, expression, said):
    assert said in fails("calculate", ledger, expression=expression)


def test_compare_then_order_difference_and_ratio(ledger):
    result = call("compare", ledger, rows=["r1", "r3", "r2"])
    assert result.text == "r2 > r1 > r3."
    difference, ratio = result.evidence
    assert (difference.property, difference.value, difference.unit) == (
        "difference",
        pytest.approx(2.7),
        "eV",
    )
    assert difference.method == "calculated: r2 - r3"
    assert (ratio.property, ratio.value, ratio.unit) == ("ratio", pytest.approx(6.4), "")
    assert ratio.derived_from == ("r2", "r3")


def test_compare_with_negative_values_then_no_ratio(ledger):
    energies = [Quantity(value, "eV/atom", "e", str(value)) for value in (-0.353, -0.116)]
    ledger.add(energies, "thermo", {})
    result = call("compare", ledger, rows=["r9", "r10"])
    assert result.text.startswith("r10 > r9. No ratio")
    assert [row.value for row in result.evidence] == [pytest.approx(0.237)]


def test_compare_with_temperatures_then_the_difference_is_no_temperature(ledger):
    ledger.add([Quantity(value, "degC", "t", str(value)) for value in (20, 30)], "t", {})
    difference = call("compare", ledger, rows=["r9", "r10"]).evidence[0]
    assert (difference.value, difference.unit) == (10, "delta_degree_Celsius")
    assert convert(difference.value, difference.unit, "K") == 10


def test_compare_with_equal_values_in_other_units_then_equal(ledger):
    ledger.add([gap(1500, unit="meV", method="other")], "x", {})
    assert call("compare", ledger, rows=["r1", "r9"]).text == "r1 = r9."


def test_compare_with_texts_then_same_or_different(ledger):
    different = call("compare", ledger, rows=["r5", "r6", "r7"])
    assert different.text == "different: r5 = r7 (FM); r6 (AFM)."
    assert different.evidence[0].value == "different"
    assert call("compare", ledger, rows=["r5", "r7"]).evidence[0].value == "same"


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["r1", "r4"], "r1 is band_gap; r4 is k_vrh|r4 is k_vrh; r1 is band_gap"),
        (["r1", "r1"], "two or more different rows"),
        (["r1", "r8"], "quotation"),
        (["r1", "r99"], "no row r99"),
        ([], "rows"),
    ],
)
@pytest.mark.parametrize("name", ["compare", "rank", "average"])
def test_several_rows_that_do_not_fit_then_says_so(ledger, name, rows, said):
    error = fails(name, ledger, rows=rows)
    assert any(each in error for each in said.split("|"))


def test_compare_with_text_and_number_then_says_so(ledger):
    ledger.add([Quantity(1, "", "ordering", "Ni")], "x", {})
    assert "like with like" in fails("compare", ledger, rows=["r5", "r9"])


def test_rank_then_the_rows_themselves_come_back_in_order(ledger):
    result = call("rank", ledger, rows=["r1", "r2", "r3"], order="ascending")
    assert result.text == "ascending: r3 < r1 < r2."
    assert ledger.add(result.evidence, "rank", {}) == ["r3", "r1", "r2"]
    assert call("rank", ledger, rows=["r1", "r2", "r3"]).text == "descending: r2 > r1 > r3."


def test_average_then_mean_extremes_and_deviation(ledger):
    mean, low, high, spread = call("average", ledger, rows=["r1", "r2", "r3"]).evidence
    assert (mean.property, mean.value, mean.unit) == ("mean", pytest.approx(5.2 / 3), "eV")
    assert (low.value, low.subject, low.subject_id) == (0.5, "Ge", "mp-32")
    assert (high.value, high.subject, high.property) == (3.2, "GaN", "maximum")
    variance = sum((x - 5.2 / 3) ** 2 for x in (1.5, 3.2, 0.5)) / 3
    assert spread.value == pytest.approx(math.sqrt(variance))
    assert low.derived_from == ("r1", "r2", "r3")
    assert mean.subject == ""


def test_results_are_rows_again(ledger):
    rng = random.Random(0)
    row = "r1"
    for _ in range(5):
        result = call("calculate", ledger, expression=f"{row} * {rng.randint(2, 5)}")
        assert isinstance(result, ToolResult)
        (row,) = ledger.add(result.evidence, "calculate", {"expression": row})
    assert json.loads(ledger[row].query)["tool"] == "calculate"
    assert ledger[row].subject == "GaAs"
