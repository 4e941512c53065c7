"""Units of materials data: conversion, checking and one way of writing them, with pint.

Conventions that pint leaves open:

- An atom is an amount of substance, so a mole that is compared with "per atom" is a mole of atoms:
  1 eV/atom = 96.485 kJ/mol. A formula unit is a dimension of its own, because it has a number of
  atoms that a unit cannot know: eV/formula_unit converts neither to eV/atom nor to kJ/mol.
- Energy, frequency, wavenumber and wavelength (E = h f = h c k = h c / wavelength) convert into
  each other only in the context "spectroscopy".
- Angles are not plain numbers: THz and rad/s differ by 2 pi, and pint would not see that.
"""

from __future__ import annotations

import difflib
import functools
import math
import re
import threading
import tokenize
from typing import Any

from ragkit.agents.tools import ToolError

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
_COMMON = (
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
    "μB": "bohr_magneton",  # with the Greek letter; the line above has the micro sign
    "Angstrom": "angstrom",
    "Kelvin": "kelvin",
}
_ANGLES = ("radian", "degree", "turn", "arcminute", "arcsecond", "grade")
_MAX_LENGTH = 60
_LOCK = threading.Lock()


def registry() -> Any:
    """The one pint registry; quantities of different registries cannot be mixed."""
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
    """The pint unit that a text names; "" is dimensionless.

    Raises:
        ToolError: The text is no unit; the message has near spellings.

    >>> str(parse_unit("eV/f.u."))
    'electron_volt / formula_unit'
    """
    import pint

    written = _respelt(text)
    powers = re.findall(r"\*\*\s*\(?\s*[-+]?([\d.]+)", written)
    sane = (
        len(written) <= _MAX_LENGTH
        and re.fullmatch(r"[^\W\d][\w ./*()%+-]*|1?|[%°].*|1 ?/[\w ./*()-]+", written)
        and not re.search(r"\)\s*\*\*|\*\*[^*/ ]*\*\*|\d{7}|\d[eE]\d", written)
        and all(power.count(".") < 2 and float(power) <= 12 for power in powers if power != ".")
    )
    if sane:
        try:
            return registry().Unit(written)
        except (pint.PintError, tokenize.TokenError, SyntaxError, ValueError, TypeError):
            pass
        except (AssertionError, AttributeError, KeyError, IndexError, ArithmeticError):
            pass  # pint's parser meets half an expression with any of these
    raise ToolError(f"{_shown(text)} is no unit that is known.{_nearest(written)}")


def _respelt(text: str) -> str:
    """Units as people write them, in pint's spelling: "cm-1" and "μB/f.u." too."""
    written = text.strip().replace("^", "**")
    for spelling, name in _SPELLINGS.items():
        written = re.sub(rf"(?<![\w.]){re.escape(spelling)}(?!\w)", name, written)
    return re.sub(r"(?<=[A-Za-zÅ])(-\d)", r"**\1", written)


def _nearest(text: str) -> str:
    by_case = {name.lower(): name for name in _COMMON}
    same = [name for name in _COMMON if name.lower() == text.lower()]
    close = same or [
        by_case[name] for name in difflib.get_close_matches(text.lower()[:40], by_case, 3, 0.6)
    ]
    if close:
        return f" Did you mean {' or '.join(close)}?"
    return " Write units like eV, eV/atom, GPa, angstrom**3, g/cm**3, K, bohr_magneton."


def quantity(value: float, unit: str) -> Any:
    """A pint quantity of the value in the unit.

    Raises:
        ToolError: The unit is unknown.
    """
    return registry().Quantity(value, parse_unit(unit))


def spell(unit: Any) -> str:
    """A pint unit as the ledger writes it: short, plain ASCII, readable by `parse_unit`.

    >>> spell(parse_unit("gigapascal * angstrom^3")), spell(parse_unit("cm-1"))
    ('angstrom**3*GPa', '1/cm')
    """
    above: list[str] = []
    below: list[str] = []
    for name, power in sorted(dict(unit._units).items(), key=lambda item: _order(item[0])):
        symbol = registry().get_symbol(name)
        short = symbol if re.fullmatch(r"[A-Za-z]+", symbol) else name
        size = abs(power)
        text = short if size == 1 else f"{short}**{int(size) if size == int(size) else size}"
        (above if power > 0 else below).append(text)
    if not above and not below:
        return ""
    return "/".join(["*".join(above) or "1", *below])


def _order(name: str) -> tuple[int, str]:
    """Counted things last, so that it is eV/angstrom**3/atom."""
    return (name in ("atom", "particle", "formula_unit", "mole"), name.lower())


def convert(value: float, unit: str, to: str, *, context: str = "") -> float:
    """The value in another unit.

    Args:
        value: In `unit`.
        unit: As pint reads it.
        to: The unit wanted.
        context: "spectroscopy" lets energy, frequency, wavenumber and wavelength convert into
            each other, as for light and phonons; "" allows only the same dimension.

    Raises:
        ToolError: A unit is unknown, or the two measure different things.

    >>> round(convert(1.0, "eV/atom", "kJ/mol"), 3)
    96.485
    >>> round(convert(1.0, "eV", "nm", context="spectroscopy"), 2)
    1239.84
    """
    if context and context not in CONTEXTS:
        raise ToolError(f"there is no context {_shown(context)}; leave it out, or: {CONTEXTS[0]}.")
    source, target = parse_unit(unit), parse_unit(to)
    given = registry().Quantity(value, source)
    if source.dimensionality != target.dimensionality or angle_power(source) != angle_power(target):
        if not context:
            raise ToolError(_impossible(source, target))
        given = _as_light(given, source, target)
    try:
        result = float(given.to(target).magnitude)
    except (OverflowError, ZeroDivisionError) as error:
        raise ToolError(f"{value:g} {unit} has no value in {to}.") from error
    if not math.isfinite(result):
        raise ToolError(f"{value:g} {unit} has no finite value in {to}.")
    return result


def angle_power(unit: Any) -> float:
    """The power of angles in a pint unit; pint itself takes them for plain numbers."""
    powers = dict(unit._units)
    return float(sum(powers.get(name, 0) for name in _ANGLES))


def _impossible(source: Any, target: Any) -> str:
    first, second = str(source.dimensionality), str(target.dimensionality)
    names = spell(source) or "a plain number", spell(target) or "a plain number"
    text = f"{names[0]} ({first}) cannot become {names[1]} ({second})."
    if first == second:
        return f"{text} One has an angle and the other has none; they differ by 2 pi."
    if _is_light(source) and _is_light(target):
        return f"{text} For light or phonons, call again with context spectroscopy."
    if "[formula_unit]" in first + second:
        return f"{text} A formula unit has several atoms; divide by their number first."
    if "[substance]" in first + second:
        return f"{text} One is per atom or mole, the other is not; both must be the same."
    if first in _EXAMPLES:
        return f"{text} Units for it: {_EXAMPLES[first]}."
    return f"{text} Name a unit of {first}."


def _is_light(unit: Any) -> bool:
    base = registry()
    return not angle_power(unit) and any(
        unit.dimensionality == base.Unit(kind).dimensionality for kind in ("eV", "Hz", "1/m", "m")
    )


def _as_light(given: Any, source: Any, target: Any) -> Any:
    """The same photon or phonon in the target's dimension.

    Done here and not with pint's contexts, which change the registry for other threads meanwhile.
    """
    if not (_is_light(source) and _is_light(target)):
        raise ToolError(_impossible(source, target))
    units = registry()
    h, hc = (
        units.Quantity(1, "planck_constant"),
        units.Quantity(1, "planck_constant*speed_of_light"),
    )

    def is_a(unit: Any, kind: str) -> bool:
        return bool(unit.dimensionality == units.Unit(kind).dimensionality)

    try:
        energy = given
        if is_a(source, "Hz"):
            energy = given * h
        elif not is_a(source, "eV"):
            energy = given * hc if is_a(source, "1/m") else hc / given
        if is_a(target, "Hz"):
            return energy / h
        if is_a(target, "eV"):
            return energy
        return energy / hc if is_a(target, "1/m") else hc / energy
    except ZeroDivisionError as error:
        raise ToolError("zero has no wavelength; give a value above zero.") from error


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _MAX_LENGTH else f"{text[:_MAX_LENGTH]!r}…"
