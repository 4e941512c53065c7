"""The words of a sentence that decide what it says: names, denials, opposites and comparisons."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from ragkit.normalize import normalize
from ragkit.readers.support.quantities import Quantity, read_quantities, stem

_WORD = re.compile(r"[^\W_]+(?:[.'’&/-]?[^\W_]+)*")  # noqa: RUF001
_CLAUSE = re.compile(
    r"[;:()]|,\s(?:and|but|while|whereas|although|though|so|which|who|however|or)\b"
    r"|\s(?:while|whereas|but|although|though|because)\s|(?<=\w)\s-\s"
)
_FUNCTION = frozenset(
    "a an the this that these those it its he she they them his her their him we our you your i my "
    "is are was were be been being am do does did doing has have had having can could may might "
    "will would shall should must of in on at by for from with to into onto as and or but nor if "
    "than then so such there here which who whom whose what when where while whereas although "
    "though because since until about around over under up down out off also very just both each "
    "s t not no never cannot without neither none nothing nobody hardly between among during per "
    "through via one some any all more most less least other another only own same too even still "
    "yet however thus hence therefore according called named known use used using one".split()
)
_OPENERS = frozenset(
    "the a an in on at it its this these those there he she they we i his her their after before "
    "during since when while however both all some many most as by for from with if no not "
    "later earlier then today also although because now".split()
)
_PRONOUNS = re.compile(
    r"(?:it|he|she|they|its|his|her|their|this|these|the (?:compound|material|film|book|album"
    r"|band(?! (?:gap|struct))"
    r"|city|company|team|song|movie|drug|show|series|author|game|country|state))\b",
    re.IGNORECASE,
)
_DENIALS = frozenset(
    "not no never neither nor none nothing nobody cannot without lacks lack lacking lacked fails "
    "failed fail unable refused refuses declined declines".split()
)
_NO_DENIAL = frozenset(
    "only less fewer more later earlier until longer necessarily just merely but exactly "
    "always".split()
)
_CONTRARIES = (
    "increase rise grow gain climb improve|decrease fall decline drop reduce shrink worsen",
    "direct|indirect",
    "soluble|insoluble",
    "ferromagnetic|antiferromagnetic paramagnetic diamagnetic",
    "conductor|insulator",
    "metallic|insulating semiconducting nonmetallic",
    "positive|negative",
    "first|last",
    "before|after",
    "always|never",
    "safe|dangerous unsafe harmful",
    "legal|illegal unlawful",
    "lawful|unlawful illegal",
    "constitutional|unconstitutional",
    "stable|unstable metastable",
    "reversible|irreversible",
    "possible|impossible",
    "present|absent",
    "maximum|minimum",
    "highest largest biggest greatest|lowest smallest",
    "oldest|youngest newest",
    "longest|shortest",
    "higher larger bigger greater wider|lower smaller narrower",
    "longer taller|shorter",
    "heavier|lighter",
    "stronger|weaker",
    "older|younger newer",
    "faster quicker|slower",
    "earlier|later",
    "winner|loser",
    "guilty|innocent",
    "succeed|fail",
    "alive|dead",
    "living|extinct",
    "male|female",
    "northern|southern",
    "eastern|western",
    "north|south",
    "east|west",
    "hot|cold",
    "solid|liquid gaseous",
    "acidic|basic alkaline",
    "exothermic|endothermic",
    "synchronous|asynchronous",
    "public|private",
    "professional|amateur",
    "open|closed",
    "toxic|nontoxic harmless",
    "contagious|noncontagious",
    "benign|malignant",
    "accept|reject",
    "approve|reject",
    "allow permit|forbid prohibit ban",
    "upheld|overturned reversed struck",
    "include|exclude",
    "fictional|nonfictional",
    "major|minor",
    "cubic|tetragonal hexagonal orthorhombic monoclinic rhombohedral triclinic",
    "rutile|anatase brookite",
    "wurtzite|zincblende",
    "amorphous|crystalline",
    "rural|urban",
    "married|unmarried",
    "victory|defeat",
    "profit|loss",
    "buyer|seller",
    "export|import",
    "convex|concave",
    "inhibit|promote activate",
    "upstream|downstream",
    "begin|end",
    "profit|loss",
    "strengthen|weaken",
    "improve|worsen",
    "raise|lower",
    "expand|shrink",
    "optimistic|pessimistic",
    "favorable|unfavorable",
    "favourable|unfavourable",
    "adjusted|unadjusted",
    "inflation|deflation",
    "gain|loss",
    "success|failure",
    "supervised|unsupervised",
    "linear|nonlinear",
    "online|offline",
    "good|bad poor",
    "strong|weak",
    "easy|difficult hard",
    "agree|disagree",
    "like|dislike",
    "able|unable",
    "likely|unlikely",
    "satisfied|dissatisfied unhappy",
    "certain|uncertain",
    "similar|dissimilar",
    "efficient|inefficient",
    "systolic|diastolic",
    "acute|chronic",
    "summer|winter",
    "ascending|descending",
)


def _opposites() -> dict[str, frozenset[str]]:
    table: dict[str, frozenset[str]] = {}
    for line in _CONTRARIES:
        left, right = (frozenset(map(stem, side.split())) for side in line.split("|"))
        for words, others in ((left, right), (right, left)):
            table |= {word: table.get(word, frozenset()) | others for word in words}
    return table


OPPOSITES = _opposites()
"""The stems that mean the contrary of a stem."""

_AXES = (
    ("size", "larger bigger greater higher wider more above", "smaller lower less narrower fewer"),
    ("size", "exceed exceeds exceeded surpasses surpassed outnumber outnumbers", "below"),
    ("time", "later younger newer", "earlier older"),
    ("strong", "stronger", "weaker"),
    ("fast", "faster quicker", "slower"),
    ("heavy", "heavier denser", "lighter"),
    ("long", "longer", "shorter"),
    ("tall", "taller", "shorter"),
    ("good", "better outperforms outperformed beats", "worse"),
    ("hard", "harder", "softer"),
    ("hot", "hotter warmer", "colder cooler"),
    ("rich", "richer", "poorer"),
    ("deep", "deeper", "shallower"),
    ("near", "closer nearer", "farther further"),
    ("expensive", "pricier costlier dearer", "cheaper"),
    ("safe", "safer", "riskier"),
    ("thick", "thicker", "thinner"),
)
_SIGNS = {word: (axis, 1) for axis, more, _ in _AXES for word in more.split()}
_SIGNS |= {word: (axis, -1) for axis, _, fewer in _AXES for word in fewer.split()}
_TRANSITIVE = frozenset(
    "exceed exceeds exceeded surpasses surpassed outnumber outnumbers outperforms outperformed "
    "beats".split()
)
_STOPS = frozenset("and but while whereas because although which since when , ; . : ( )".split())


@dataclass(frozen=True, slots=True)
class Word:
    """One word: `key` names it in comparisons of names, `denied` if a denial goes before it."""

    key: str
    stem: str
    start: int
    clause: int
    name: bool
    content: bool
    denied: bool


@dataclass(frozen=True, slots=True)
class Comparison:
    """The left thing has more (`sign` 1) or less (-1) of something than the right thing."""

    left: frozenset[str]
    right: frozenset[str]
    axis: str
    sign: int
    word: str
    start: int


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence as it was read."""

    text: str
    words: tuple[Word, ...]
    quantities: tuple[Quantity, ...]
    comparisons: tuple[Comparison, ...]
    pronoun: bool

    def keys(self) -> frozenset[str]:
        """The words as names are compared."""
        return frozenset(word.key for word in self.words) | frozenset(
            word.key.casefold() for word in self.words
        )

    def stems(self) -> frozenset[str]:
        """The stems of all words."""
        return frozenset(word.stem for word in self.words)


@lru_cache(maxsize=2048)
def read_sentence(text: str) -> Sentence:
    """Read a sentence: its words, quantities and comparisons.

    >>> [word.key for word in read_sentence("The gap of GaAs is not small.").words if word.denied]
    ['small']
    """
    text = re.sub(r"n't\b", " not", normalize(text)).replace("can not", "cannot")
    bounds = [match.start() for match in _CLAUSE.finditer(text)]
    words: list[Word] = []
    denied = 0
    clause = 0
    for match in _WORD.finditer(text):
        raw = re.sub(r"'s?$|'s\b", "", match[0])
        lower = raw.lower()
        while clause < len(bounds) and bounds[clause] <= match.start():
            clause, denied = clause + 1, 0
        content = lower not in _FUNCTION and not raw[0].isdigit() and len(raw) > 1
        name = _is_name(raw, first=not words or _opens(text, match.start()))
        if lower in _DENIALS:
            denied = 2
        elif lower in _NO_DENIAL and denied:
            denied = 0
        elif content or name:
            denied = max(0, denied)
        here = denied > 0 and content
        words.append(Word(_key(raw), stem(raw), match.start(), clause, name, content or name, here))
        denied -= here
    return Sentence(
        text,
        tuple(words),
        read_quantities(text),
        tuple(_comparisons(text)),
        bool(_PRONOUNS.match(text)),
    )


def _opens(text: str, start: int) -> bool:
    return bool(re.search(r"[.!?:\"]\s\"?$|^[\"'(]*$", text[max(0, start - 3) : start]))


def _is_name(word: str, *, first: bool) -> bool:
    """Tell whether a word is a name: a capital inside a sentence, or a formula or code."""
    if any(char.isupper() for char in word[1:]) and len(word) > 1:
        return True
    if any(char.isdigit() for char in word):
        return any(char.isalpha() for char in word) and not re.fullmatch(
            r"\d+(?:st|nd|rd|th|s|[a-z]{1,3})(?:-\w+)*|\d+-\w+", word
        )
    return not first and word[0].isupper() and word.lower() not in _OPENERS and len(word) > 1


def _key(word: str) -> str:
    """Return a word as it is compared: formulas with their case, so that GaP is no gap."""
    mixed = any(char.isupper() for char in word[1:]) and any(char.islower() for char in word)
    return word if mixed else word.casefold()


def _comparisons(text: str) -> list[Comparison]:
    tokens = re.findall(r"[^\W_]+(?:[.'-][^\W_]+)*|[,;.:()]", text)
    lower = [token.lower() for token in tokens]
    found = []
    for i, word in enumerate(lower):
        axis, sign = _axis(lower, i)
        if not sign or i == 0:
            continue
        if word in _TRANSITIVE or word in ("above", "below"):
            middle = i + 1
        else:
            after = range(i + 1, min(i + 8, len(lower)))
            middle = next((j + 1 for j in after if lower[j] == "than"), 0)
            if not middle or _STOPS & set(lower[i:middle]):
                continue
        left = [token for token in reversed(_until(tokens[i - 1 :: -1]))]
        right = _until(tokens[middle:])
        if _DENIALS & {token.lower() for token in left}:
            continue
        left += tokens[i + 1 : middle]
        sides = _stems(left), _stems(right)
        if all(sides) and not any(char.isdigit() for char in "".join(right[:2])):
            found.append(Comparison(*sides, axis, sign, word, i))
    return found


def _axis(lower: Sequence[str], i: int) -> tuple[str, int]:
    """Return what a comparative at `i` compares, and its direction; 0 if there is none."""
    word = lower[i]
    following = lower[i + 1] if i + 1 < len(lower) else ""
    if word in ("more", "less") and following != "than" and i + 2 < len(lower):
        adjective = lower[i + 2] == "than" and not re.search(r"(?<!ou)s$|people$", following)
        return (stem(following) if adjective else "size"), (1 if word == "more" else -1)
    if word in _SIGNS:
        return _SIGNS[word]
    if following == "than" and word.endswith("er") and word not in ("rather", "other"):
        return stem(re.sub(r"(.)\1er$|ier$|er$", r"\1", word)), 1
    return "", 0


def _until(tokens: Sequence[str]) -> list[str]:
    end = next((j for j, token in enumerate(tokens) if token.lower() in _STOPS), len(tokens))
    return list(tokens[:end])


def _stems(tokens: Sequence[str]) -> frozenset[str]:
    return frozenset(
        key if any(char.isupper() for char in key) else stem(token)
        for token in tokens
        for key in [_key(token)]
        if token.lower() not in _FUNCTION and (token[0].isalpha() or not token.isdigit())
    )


def names_apart(sentence: Sentence) -> list[tuple[str, str, str]]:
    """The pairs of neighbouring names in a sentence, with the words between them.

    >>> names_apart(read_sentence("Google bought YouTube in 2006."))
    [('google', 'bought', 'youtube')]
    """
    runs: list[tuple[int, int, str]] = []
    for match in _WORD.finditer(sentence.text):
        word = match[0]
        if not word[0].isupper() or word.lower() in _OPENERS:
            continue
        if runs and sentence.text[runs[-1][1] : match.start()] == " ":
            runs[-1] = (runs[-1][0], match.end(), f"{runs[-1][2]} {word.casefold()}")
        else:
            runs.append((match.start(), match.end(), word.casefold()))
    return [
        (left, sentence.text[end:start].strip().lower(), right)
        for (_, end, left), (start, _, right) in pairwise(runs)
    ]


_ALIAS = re.compile(
    r"((?:[A-Za-z-]+\s){0,4}[A-Za-z-]+)\s?\(([A-Za-z][\w.-]{0,11})\)"
    r"|\b([A-Z][\w.-]{0,11})\s?[(,]\s?([a-z]+(?:\s[a-z]+){0,3})[),]"
)


def aliases(text: str) -> dict[str, str]:
    """The short names that a text gives for long ones: formulas and initials.

    >>> aliases("Gallium arsenide (GaAs) and the World Health Organization (WHO)")
    {'gallium arsenide': 'GaAs', 'world health organization': 'WHO'}
    """
    found = {}
    for match in _ALIAS.finditer(normalize(text)):
        short = match[2] or match[3]
        words = (match[1] or match[4]).split()
        if not any(char.isupper() for char in short):
            continue
        for length in range(min(5, len(words)), 0, -1):
            part = words[len(words) - length :] if match[1] else words[:length]
            if _abbreviates(short, part):
                found[" ".join(part).casefold()] = short
                break
    return found


def _abbreviates(short: str, words: Sequence[str]) -> bool:
    initials = "".join(word[0] for word in words if word.lower() not in _FUNCTION).casefold()
    every = "".join(word[0] for word in words).casefold()
    letters = re.sub(r"[^A-Za-z]", "", short)
    if words[0].lower() in _FUNCTION:
        return False
    if len(letters) > 1 and letters.isupper() and letters.casefold() in (initials, every):
        return True
    symbols = re.findall(r"[A-Z][a-z]?", short)
    formula = "".join(symbols) == letters and 1 <= len(symbols) <= 4
    if not formula:
        return False
    ends = re.search(r"(?:ide|ate|ite)$", words[-1]) is not None and len(words) == len(symbols)
    return ends or (len(words) == len(symbols) == 1 and words[0][:2].casefold() == short.casefold())
