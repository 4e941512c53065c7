"""Unicode characters of the symbol fonts that Word files use."""

# ruff: noqa: RUF001, RUF002 - Greek letters and signs
from __future__ import annotations

_SYMBOL = {
    0x20: " !∀#∃%&∋()∗+,−./0123456789:;<=>?",
    0x40: "≅ΑΒΧΔΕΦΓΗΙϑΚΛΜΝΟΠΘΡΣΤΥςΩΞΨΖ[∴]⊥_",
    0x60: "‾αβχδεφγηιϕκλμνοπθρστυϖωξψζ{|}∼",
    0xA0: "€ϒ′≤⁄∞ƒ♣♦♥♠↔←↑→↓°±″≥×∝∂•÷≠≡≈…|—↵",
    0xC0: "ℵℑℜ℘⊗⊕∅∩∪⊃⊇⊄⊂⊆∈∉∠∇®©™∏√⋅¬∧∨⇔⇐⇑⇒⇓",
    0xE0: "◊⟨®©™∑⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪",
    0xF1: "⟩∫⌠⎮⌡⎞⎟⎠⎤⎥⎦⎫⎬⎭",
}
_WINGDINGS = {
    **{0x28: "☎", 0x2A: "✉", 0x46: "☞", 0x4A: "☺", 0x6C: "●", 0x6E: "■", 0x6F: "☐", 0x76: "❖"},
    **{0x78: "☒", 0xA7: "▪", 0xA8: "☐", 0xD8: "➢", 0xDF: "←", 0xE0: "→", 0xE1: "↑", 0xE2: "↓"},
    **{0xF0: "⇨", 0xFB: "✗", 0xFC: "✓", 0xFD: "☒", 0xFE: "☑"},
}
_FONTS: dict[str, dict[int, str]] = {
    "symbol": {
        start + index: char for start, chars in _SYMBOL.items() for index, char in enumerate(chars)
    },
    "wingdings": _WINGDINGS,
}


def is_symbol_font(font: str) -> bool:
    """Return True if a font shows other characters than the codes in the text say."""
    return font.lower().startswith(("symbol", "wingdings", "webdings"))


def from_symbol_font(code: int, font: str) -> str | None:
    """Return the character that a symbol font shows for a code, or None if it is not known.

    >>> from_symbol_font(0xF061, "Symbol"), from_symbol_font(0xFE, "Wingdings")
    ('α', '☑')
    >>> from_symbol_font(0xF041, "Webdings")
    """
    if 0xF000 <= code <= 0xF0FF:
        code -= 0xF000  # the private area that these fonts use
    return _FONTS.get(font.lower(), {}).get(code)
