"""Parse, convert and format units of materials data with pint.

Conventions beyond pint's:

- An atom is an amount of substance, so in a comparison with "per atom" a mole is a mole of atoms:
  1 eV/atom = 96.485 kJ/mol. A formula unit is a separate dimension, because its number of atoms is
  unknown: eV/formula_unit converts neither to eV/atom nor to kJ/mol.
- Energy, frequency, wavenumber and wavelength (E = h f = h c k = h c / wavelength) convert into
  each other only in the context "spectroscopy".
- Angles are not dimensionless: THz and rad/s differ by 2 pi, which pint would ignore.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import tokenize
from typing import Any

from ragkit.agents.tools import ToolError
from ragkit.forks import ForkSafeLock

CONTEXTS = ("spectroscopy",)

_EXAMPLES = {
    "[mass] * [length] ** 2 / [time] ** 2": "eV, meV, kJ, hartree",
    "[mass] * [length] ** 2 / [time] ** 2 / [substance]": "eV/atom, meV/atom, kJ/mol",
    "[formula_unit]": "formula_unit",
    "[length]": "angstrom, nm, bohr",
    "[length] ** 3": "angstrom**3, nm**3, cm**3",
    "[mass] / [length] / [time] ** 2": "GPa, Mbar, psi, eV/angstrom**3",
    "[mass] / [length] ** 3": "g/cm**3, kg/m**3",
    "[temperature]": "K, degC",
    "[time]": "s, hour",
    "1 / [time]": "THz, Hz",
    "1 / [length]": "1/cm, 1/angstrom",
    "[current] * [time] / [length] ** 2": "C/m**2, uC/cm**2",
    "[current] * [length] ** 2": "bohr_magneton, A*m**2",
}
_COMMON_UNITS = (
    "eV meV keV MeV eV/atom kJ/mol hartree rydberg GPa MPa Pa Mbar kbar psi angstrom nm pm bohr "
    "angstrom**3 g/cm**3 kg/m**3 K degC degree radian THz Hz bohr_magneton formula_unit atom mol "
    "C/m**2 percent s hour amu g/mol W J N m cm"
).split()
_SPELLINGS = {
    "f.u.": "formula_unit",
    "fu": "formula_unit",
    "muB": "bohr_magneton",
    "uB": "bohr_magneton",
    "µB": "bohr_magneton",
    "μB": "bohr_magneton",  # Greek letter mu; the line above has the micro sign
    "Angstrom": "angstrom",
    "Kelvin": "kelvin",
}
_ANGLES = ("radian", "degree", "turn", "arcminute", "arcsecond", "grade")
_MAX_LENGTH = 60
_LOCK = ForkSafeLock()


def registry() -> Any:
    """Return the shared pint registry; quantities of different registries cannot be combined."""
    with _LOCK:
        return _registry()


@functools.cache
def _registry() -> Any:
    import pint

    units: Any = pint.UnitRegistry()
    units.define("atom = particle")
    units.define("formula_unit = [formula_unit]")
    return units


def parse_unit(text: str) -> Any:
    """Parse a unit; "" is dimensionless.

    Raises:
        ToolError: The text is not a unit. The message suggests similar spellings.

    >>> str(parse_unit("eV/f.u."))
    'electron_volt / formula_unit'
    """
    import pint

    respelled = _respell(text)
    powers = re.findall(r"\*\*\s*\(?\s*[-+]?([\d.]+)", respelled)
    is_plausible = (
        len(respelled) <= _MAX_LENGTH
        and re.fullmatch(r"[^\W\d][\w ./*()%+-]*|1?|[%°].*|1 ?/[\w ./*()-]+", respelled)
        and not re.search(r"\)\s*\*\*|\*\*[^*/ ]*\*\*|\d{7}|\d[eE]\d", respelled)
        and all(power.count(".") < 2 and float(power) <= 12 for power in powers if power != ".")
    )
    if is_plausible:
        try:
            return registry().Unit(respelled)
        except (pint.PintError, tokenize.TokenError, SyntaxError, ValueError, TypeError):
            pass
        except (AssertionError, AttributeError, KeyError, IndexError, ArithmeticError):
            pass  # pint's parser raises any of these for incomplete expressions
    raise ToolError(f"{_excerpt(text)} is no unit that is known.{_suggestion(respelled)}")


def _respell(text: str) -> str:
    """Convert common spellings such as "cm-1" and "μB/f.u." to pint's spelling."""
    respelled = text.strip().replace("^", "**")
    for spelling, name in _SPELLINGS.items():
        respelled = re.sub(rf"(?<![\w.]){re.escape(spelling)}(?!\w)", name, respelled)
    return re.sub(r"(?<=[A-Za-zÅ])(-\d)", r"**\1", respelled)


def _suggestion(text: str) -> str:
    by_case = {name.lower(): name for name in _COMMON_UNITS}
    same_letters = [name for name in _COMMON_UNITS if name.lower() == text.lower()]
    suggestions = same_letters or [
        by_case[name] for name in difflib.get_close_matches(text.lower()[:40], by_case, 3, 0.6)
    ]
    if suggestions:
        return f" Did you mean {' or '.join(suggestions)}?"
    return " Write units like eV, eV/atom, GPa, angstrom**3, g/cm**3, K, bohr_magneton."


def quantity(value: float, unit: str) -> Any:
    """Build a pint quantity.

    Raises:
        ToolError: The unit is unknown.
    """
    return registry().Quantity(value, parse_unit(unit))


def format_unit(unit: Any) -> str:
    """Format a pint unit in the ledger's spelling: short, ASCII, readable by `parse_unit`.

    >>> format_unit(parse_unit("gigapascal * angstrom^3")), format_unit(parse_unit("cm-1"))
    ('angstrom**3*GPa', '1/cm')
    """
    numerator: list[str] = []
    denominator: list[str] = []
    for name, power in sorted(dict(unit._units).items(), key=lambda item: _sort_key(item[0])):
        symbol = registry().get_symbol(name)
        label = symbol if re.fullmatch(r"[A-Za-z]+", symbol) else name
        exponent = abs(power)
        factor = (
            label
            if exponent == 1
            else f"{label}**{int(exponent) if exponent == int(exponent) else exponent}"
        )
        (numerator if power > 0 else denominator).append(factor)
    if not numerator and not denominator:
        return ""
    return "/".join(["*".join(numerator) or "1", *denominator])


def _sort_key(name: str) -> tuple[int, str]:
    """Return the sort key of a unit name; counts come last, as in eV/angstrom**3/atom."""
    return (name in ("atom", "particle", "formula_unit", "mole"), name.lower())


def convert(value: float, unit: str, to: str, *, context: str = "") -> float:
    """Convert a value to another unit.

    Args:
        value: Value in `unit`.
        unit: Source unit.
        to: Target unit.
        context: "spectroscopy" lets energy, frequency, wavenumber and wavelength convert into
            each other, as for light and phonons; "" requires equal dimensions.

    Raises:
        ToolError: A unit is unknown, or the dimensions differ.

    >>> round(convert(1.0, "eV/atom", "kJ/mol"), 3)
    96.485
    >>> round(convert(1.0, "eV", "nm", context="spectroscopy"), 2)
    1239.84
    """
    if context and context not in CONTEXTS:
        raise ToolError(
            f"there is no context {_excerpt(context)}; leave it out, or: {CONTEXTS[0]}."
        )
    source, target = parse_unit(unit), parse_unit(to)
    measured = registry().Quantity(value, source)
    if source.dimensionality != target.dimensionality or angle_power(source) != angle_power(target):
        if not context:
            raise ToolError(_conversion_error(source, target))
        measured = _convert_light(measured, source, target)
    try:
        result = float(measured.to(target).magnitude)
    except (OverflowError, ZeroDivisionError) as error:
        raise ToolError(f"{value:g} {unit} has no value in {to}.") from error
    if not math.isfinite(result):
        raise ToolError(f"{value:g} {unit} has no finite value in {to}.")
    return result


def angle_power(unit: Any) -> float:
    """Return the exponent of angle units in a pint unit, which pint treats as dimensionless."""
    powers = dict(unit._units)
    return float(sum(powers.get(name, 0) for name in _ANGLES))


def _conversion_error(source: Any, target: Any) -> str:
    first, second = str(source.dimensionality), str(target.dimensionality)
    names = format_unit(source) or "a plain number", format_unit(target) or "a plain number"
    text = f"{names[0]} ({first}) cannot become {names[1]} ({second})."
    if first == second:
        return f"{text} One has an angle and the other has none; they differ by 2 pi."
    if _is_light_unit(source) and _is_light_unit(target):
        return f"{text} For light or phonons, call again with context spectroscopy."
    if "[formula_unit]" in first + second:
        return f"{text} A formula unit has several atoms; divide by their number first."
    if "[substance]" in first + second:
        return f"{text} One is per atom or mole, the other is not; both must be the same."
    if first in _EXAMPLES:
        return f"{text} Units for it: {_EXAMPLES[first]}."
    return f"{text} Name a unit of {first}."


def _is_light_unit(unit: Any) -> bool:
    units = registry()
    return not angle_power(unit) and any(
        unit.dimensionality == units.Unit(kind).dimensionality for kind in ("eV", "Hz", "1/m", "m")
    )


def _convert_light(source_quantity: Any, source: Any, target: Any) -> Any:
    """Convert a photon or phonon to the dimension of the target unit.

    Pint's contexts are not used, because they modify the registry for all threads.
    """
    if not (_is_light_unit(source) and _is_light_unit(target)):
        raise ToolError(_conversion_error(source, target))
    units = registry()
    h, hc = (
        units.Quantity(1, "planck_constant"),
        units.Quantity(1, "planck_constant*speed_of_light"),
    )

    def has_dimension_of(unit: Any, kind: str) -> bool:
        return bool(unit.dimensionality == units.Unit(kind).dimensionality)

    try:
        energy = source_quantity
        if has_dimension_of(source, "Hz"):
            energy = source_quantity * h
        elif not has_dimension_of(source, "eV"):
            energy = (
                source_quantity * hc if has_dimension_of(source, "1/m") else hc / source_quantity
            )
        if has_dimension_of(target, "Hz"):
            return energy / h
        if has_dimension_of(target, "eV"):
            return energy
        return energy / hc if has_dimension_of(target, "1/m") else hc / energy
    except ZeroDivisionError as error:
        raise ToolError("zero has no wavelength; give a value above zero.") from error


def _excerpt(text: str) -> str:
    return repr(text) if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]!r}…"
