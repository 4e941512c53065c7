"""Names of chemical elements and well-known substances."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

ELEMENTS = dict(
    pair.split(":")
    for pair in (
        "H:hydrogen He:helium Li:lithium Be:beryllium B:boron C:carbon N:nitrogen O:oxygen "
        "F:fluorine Ne:neon Na:sodium Mg:magnesium Al:aluminium Si:silicon P:phosphorus S:sulfur "
        "Cl:chlorine Ar:argon K:potassium Ca:calcium Sc:scandium Ti:titanium V:vanadium "
        "Cr:chromium Mn:manganese Fe:iron Co:cobalt Ni:nickel Cu:copper Zn:zinc Ga:gallium "
        "Ge:germanium As:arsenic Se:selenium Br:bromine Kr:krypton Rb:rubidium Sr:strontium "
        "Y:yttrium Zr:zirconium Nb:niobium Mo:molybdenum Tc:technetium Ru:ruthenium Rh:rhodium "
        "Pd:palladium Ag:silver Cd:cadmium In:indium Sn:tin Sb:antimony Te:tellurium I:iodine "
        "Xe:xenon Cs:caesium Ba:barium La:lanthanum Ce:cerium Pr:praseodymium Nd:neodymium "
        "Pm:promethium Sm:samarium Eu:europium Gd:gadolinium Tb:terbium Dy:dysprosium Ho:holmium "
        "Er:erbium Tm:thulium Yb:ytterbium Lu:lutetium Hf:hafnium Ta:tantalum W:tungsten "
        "Re:rhenium Os:osmium Ir:iridium Pt:platinum Au:gold Hg:mercury Tl:thallium Pb:lead "
        "Bi:bismuth Po:polonium At:astatine Rn:radon Fr:francium Ra:radium Ac:actinium Th:thorium "
        "Pa:protactinium U:uranium Np:neptunium Pu:plutonium Am:americium Cm:curium Bk:berkelium "
        "Cf:californium Es:einsteinium Fm:fermium Md:mendelevium No:nobelium Lr:lawrencium "
        "Rf:rutherfordium Db:dubnium Sg:seaborgium Bh:bohrium Hs:hassium Mt:meitnerium "
        "Ds:darmstadtium Rg:roentgenium Cn:copernicium Nh:nihonium Fl:flerovium Mc:moscovium "
        "Lv:livermorium Ts:tennessine Og:oganesson"
    ).split()
)
ISOTOPES = {"D": "H", "T": "H"}
_SPELLINGS = {"aluminum": "Al", "cesium": "Cs", "sulphur": "S"}
BY_NAME = {name: symbol for symbol, name in ELEMENTS.items()} | _SPELLINGS

# Names with exactly one composition; ambiguous ones (iron oxide, copper sulfide) are omitted.
_SUBSTANCES = {
    "water": "H2O", "heavy water": "H2O", "deuterium oxide": "H2O", "tritiated water": "H2O",
    "ice": "H2O", "deuterium": "H2", "tritium": "H2", "diamond": "C", "graphite": "C",
    "graphene": "C", "quartz": "SiO2", "silica": "SiO2", "cristobalite": "SiO2",
    "rutile": "TiO2", "anatase": "TiO2", "brookite": "TiO2", "titania": "TiO2",
    "alumina": "Al2O3", "corundum": "Al2O3", "sapphire": "Al2O3", "magnesia": "MgO",
    "periclase": "MgO", "lime": "CaO", "quicklime": "CaO", "zirconia": "ZrO2", "hafnia": "HfO2",
    "ceria": "CeO2", "urania": "UO2", "yttria": "Y2O3", "thoria": "ThO2", "beryllia": "BeO",
    "hematite": "Fe2O3", "magnetite": "Fe3O4", "wustite": "FeO", "pyrite": "FeS2",
    "galena": "PbS", "cinnabar": "HgS", "sphalerite": "ZnS", "cuprite": "Cu2O",
    "tenorite": "CuO", "halite": "NaCl", "rock salt": "NaCl", "table salt": "NaCl",
    "fluorite": "CaF2", "calcite": "CaCO3", "aragonite": "CaCO3", "magnesite": "MgCO3",
    "dolomite": "CaMg(CO3)2", "baryte": "BaSO4", "forsterite": "Mg2SiO4", "spinel": "MgAl2O4",
    "cementite": "Fe3C", "cobalt blue": "CoAl2O4", "dry ice": "CO2", "ammonia": "NH3",
    "methane": "CH4", "silane": "SiH4", "boron carbide": "B4C", "silicon carbide": "SiC",
    "carborundum": "SiC", "tungsten carbide": "WC", "titanium carbide": "TiC",
    "titanium nitride": "TiN", "silicon nitride": "Si3N4", "barium titanate": "BaTiO3",
    "strontium titanate": "SrTiO3", "lead titanate": "PbTiO3", "calcium titanate": "CaTiO3",
    "lithium niobate": "LiNbO3", "lithium tantalate": "LiTaO3", "potassium niobate": "KNbO3",
    "lithium iron phosphate": "LiFePO4", "iron phosphate": "FePO4",
    "lithium cobalt oxide": "LiCoO2", "lithium manganese oxide": "LiMn2O4",
    "lithium nickel oxide": "LiNiO2", "bismuth ferrite": "BiFeO3", "calcium carbonate": "CaCO3",
    "lead telluride": "PbTe", "lead selenide": "PbSe", "lead sulfide": "PbS",
    "bismuth telluride": "Bi2Te3", "bismuth selenide": "Bi2Se3", "antimony telluride": "Sb2Te3",
    "silver chloride": "AgCl", "silver bromide": "AgBr", "silver iodide": "AgI",
    "gallium selenide": "GaSe", "caesium lead iodide": "CsPbI3", "cesium lead iodide": "CsPbI3",
    "caesium lead bromide": "CsPbBr3", "cesium lead bromide": "CsPbBr3",
    "yttrium aluminium garnet": "Y3Al5O12", "yttrium iron garnet": "Y3Fe5O12",
}  # fmt: skip
_PREFIXES = ("", "mono", "di", "tri", "tetra", "penta", "hexa", "hepta", "octa")
_ANIONS = {
    "fluoride": ("F", 1), "chloride": ("Cl", 1), "bromide": ("Br", 1), "iodide": ("I", 1),
    "oxide": ("O", 2), "sulfide": ("S", 2), "sulphide": ("S", 2), "selenide": ("Se", 2),
    "telluride": ("Te", 2), "nitride": ("N", 3), "phosphide": ("P", 3), "arsenide": ("As", 3),
    "antimonide": ("Sb", 3),
}  # fmt: skip
# Cations with one charge; the last group has it with oxygen and the nitrogen family only.
_CHARGES = dict.fromkeys("Li Na K Rb Cs".split(), 1) | dict.fromkeys(
    "Be Mg Ca Sr Ba Zn Cd".split(), 2
)
_PNICTOGEN_CHARGES = dict.fromkeys("Al B Ga In Sc Y La".split(), 3)
# Elements whose trioxide has two cations: As2O3, but WO3.
_SESQUIOXIDE_FORMERS = frozenset("B Al N P As Sb Bi".split())


def composition_of(name: str) -> str | None:
    """Return the formula for a name, or None if the name is unknown or ambiguous.

    >>> composition_of("Vanadium pentoxide"), composition_of("boron nitride")
    ('V2O5', 'BN')
    >>> composition_of("copper sulfide") is None
    True
    """
    plain = re.sub(r"[\s-]+", " ", name.strip().lower())
    return _SUBSTANCES.get(plain) or BY_NAME.get(plain) or _binary_formula(plain)


def _binary_formula(name: str) -> str | None:
    """Return the formula of a binary compound such as "gallium arsenide", or None if ambiguous."""
    words = name.split()
    if len(words) != 2 or (anion_and_count := _parse_anion(words[1])) is None:
        return None
    (anion, charge), count = anion_and_count
    cation, cations = _split_prefix(words[0], BY_NAME)
    if cation is None:
        return None
    symbol = BY_NAME[cation]
    if (
        not cations
        and charge == 2
        and (count == 5 or (count == 3 and symbol in _SESQUIOXIDE_FORMERS))
    ):
        cations = 2
    if count or cations:
        return f"{symbol}{_subscript(cations or 1)}{anion}{_subscript(count or 1)}"
    own_charge = _CHARGES.get(symbol)
    if own_charge is None and anion in ("O", "N", "P", "As", "Sb"):
        own_charge = _PNICTOGEN_CHARGES.get(symbol)
    if own_charge is None:
        return None
    common = math.lcm(own_charge, charge)
    return f"{symbol}{_subscript(common // own_charge)}{anion}{_subscript(common // charge)}"


def _parse_anion(word: str) -> tuple[tuple[str, int], int] | None:
    stem, count = _split_prefix(re.sub(r"^(mon|tetr|pent|hex|hept|oct)ox", r"\1aox", word), _ANIONS)
    if stem is None:
        stem, count = _split_prefix(word.replace("monox", "monoox"), _ANIONS)
    return None if stem is None else (_ANIONS[stem], count)


def _split_prefix(word: str, stems: Iterable[str]) -> tuple[str | None, int]:
    """Split a word into a known stem and the number of its Greek prefix (0 without a prefix)."""
    names = set(stems)
    for count, prefix in enumerate(_PREFIXES):
        if word.startswith(prefix) and word[len(prefix) :] in names:
            return word[len(prefix) :], count
    return None, 0


def _subscript(count: int) -> str:
    return str(count) if count != 1 else ""
