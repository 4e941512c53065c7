"""Split text into sentences with rules.

A single scan finds the candidates: runs of stops ("." "!" "?" "…" and the full stops of other
scripts) and newlines. Each candidate is checked in a bounded window or against the neighbouring
lines, so the time is linear in the length of the text.

The word lists were written for ragkit from general knowledge of English, German, French and
Spanish usage and of scientific references; they are not derived from test sentences.
"""

# ruff: noqa: RUF001 - quotes, dashes and full-width stops are what this module is about
from __future__ import annotations

import re

_STOPS = ".!?…‽؟۔।॥"
_CJK_STOPS = "。！？｡"  # not followed by white space
_CLOSERS = "\"'”’»›)\\]}」』）】》〉*_"  # escaped for a character class

# Possessive quantifiers do not backtrack, hence linear time. Group 1 is the stops or one newline,
# group 2 the white space after closing marks and "[12]" references.
_CANDIDATE = re.compile(
    rf"([{_STOPS}{_CJK_STOPS}\n](?:(?<=\n)|[{_STOPS}{_CJK_STOPS}]*+))"
    rf"(?:(?<=\n)|[{_CLOSERS}]*+(?:\[[\d,; –-]{{1,20}}\])?+)(\s*+)"
)
_NEXT = re.compile(r"[\"'“”‘’„«‹(\[{¿¡*_`–—-]{0,4}+(\w{0,24}+)(\.?)")
# Start of a line that is a separate block in Markdown or plain text.
_BLOCK = re.compile(
    r"#{1,6}\s|[-*+•▪◦‣·]\s|\(?(?:\d{1,3}|[A-Za-z])\)\s|\d{1,3}\.\s|[|>]|```|~~~|={3}|-{3}|\*{3}"
)
# Start of a line that always ends at its newline.
_WHOLE_LINE = re.compile(r"[ \t]*+(?:#{1,6}\s|\||={3}|-{3}|\*{3}|```|~~~)")
_FIRST_WORD = re.compile(r"\S{0,40}+")
_LETTERS = re.compile(r"[^\W\d_]{1,2}(?:\.-?[^\W\d_]{1,2})+")  # U.S, a.m, Ph.D, J.-P
_LABEL = re.compile(r"\w*\d\w*|[IVXLC]+|[A-Z]")  # 3, S1, 2a, IV, B
_OUTLINE = re.compile(r"\d{1,3}(?:\.\d{1,3})*|[ivxIVX]{1,4}|[A-Za-z]")
_OPENERS = "([{\"'“‘„«‹*_"

_WINDOW = 40  # code points checked before a stop; longer than a number and an abbreviation
_LONGEST = 8  # letters of the longest abbreviation without inner stops
_WRAP = range(30, 121)  # widths of hard-wrapped lines


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Abbreviations that never end a sentence.
_NEVER_FINAL = _words(
    "Mr Mrs Ms Mx Dr Drs Prof Profs Gen Rep Reps Sen Sens Gov Lt Col Cmdr Capt Sgt Maj Rev Hon "
    "Pres Messrs Mme Mlle Fr Herr Ing Dipl Sra Dra Mt vs Vs e.g E.g i.e I.e eg ie cf Cf viz "
    "approx Approx ca Ca esp incl excl z.B Z.B d.h D.h u.a o.ä bzw vgl Vgl sog ggf p.ex p.ej "
    "w.r.t a.k.a v P.S p.s"
)
# Abbreviations that do not end a sentence before a number, a label or a lower-case word.
_NUMBERED = _words(
    "fig figs Fig Figs eq eqs eqn eqns Eq Eqs Eqn Eqns no nos No Nos nr Nr vol vols Vol Vols p pp "
    "P pg pgs sec secs sect Sec Secs Sect ch chap Ch Chap ref refs Ref Refs tab tabs Tab Tabs art "
    "Art arts Arts app App para pt Pt ser Ser ed Abb núm Núm num cap Cap pág págs bd Bd c tel Tel "
    "ext Ext"
)
# Abbreviations that end a sentence only before a typical first word (`_STARTERS`).
_MAYBE_FINAL = _words(
    "inc Inc ltd Ltd corp Corp co Co cos Cos LLC bros Bros jr Jr sr Sr Esq al st St ave Ave Blvd "
    "Rd Hwy dept Dept univ Univ assn Assn assoc Assoc Natl Intl govt Govt est Est Jan Feb Mar Apr "
    "Jun Jul Aug Sep Sept Oct Nov Dec Mon Tue Tues Wed Thu Thur Thurs Fri Calif Fla Mass Penn "
    "Conn Ariz Colo Ill Mich Minn Tenn Wis Okla Ore Phys Lett Chem Mater Sci Commun Proc Acad Soc "
    "Appl Int Eng Mech Opt Biol Med Nucl Instrum Technol Adv Annu Bull Ann Math Comput Electron "
    "Cryst Acta Res Trans Conf Symp Am Nat usw temp conc max min avg std resp sp spp ft hr hrs Hr "
    "Nr suppl Suppl"
)
_STARTERS = _words(
    "The A An This That These Those There Here It Its He His She Her They Their We Our You Your I "
    "My In On At As If When While Where After Before Since Because Although Though However But "
    "And Or So For From To By With Without Within What Who Why How Which Is Are Was Were Do Does "
    "Did Can Could Will Would Should Has Have Had Not Yes Also Then Thus Hence Therefore Moreover "
    "Furthermore Finally Nevertheless Instead Both Each Every Some Many Most All Any Other "
    "Another Such Under Over During Between Among Until Once Only Even Now Today Please Let "
    "Thanks One Two Der Die Das Ein Eine Es Er Sie Wir Im Und Aber Auch Dies Diese Le Les Un Une "
    "Il Elle Ce Cette Ces Nous Dans Et Mais El Los Las Una Esta Este Se Por Pero Como Lo"
)
# A line that ends in one of these words does not end a sentence.
_DANGLING = _words(
    "a an the of at for from with into onto and or nor as than that which whose between among via "
    "per using under towards through its their our his her is are was were be been can may will "
    "der die das dem den des ein eine einer eines und oder mit von für le la les un une de du des "
    "et ou el los las del y o que con por para"
)
# Months that follow the number of a day in German: "am 3. Oktober".
_MONTHS = _words(
    "Januar Jänner Februar März April Mai Juni Juli August September Oktober November Dezember"
)


class RuleSegmenter:
    """Sentence segmenter with rules for stops, abbreviations, numbers, quotes and newlines.

    A blank line ends a sentence. A single newline ends one unless the next line continues it: the
    next line begins in lower case, or the line was full, as in hard-wrapped text, or it ends in a
    word like "of". Headings, list items and table rows end at their newline. Chinese and Japanese
    stops need no space after them.

    >>> text = "See Fig. 3. It holds at 3.5 eV (Phys. Rev. B 12)."
    >>> [text[start:end] for start, end in RuleSegmenter().sentences(text)]
    ['See Fig. 3.', 'It holds at 3.5 eV (Phys. Rev. B 12).']
    """

    name = "rules-1"

    def sentences(self, text: str) -> list[tuple[int, int]]:
        """Return the (start, end) spans of the sentences; the gaps are only white space."""
        spans: list[tuple[int, int]] = []
        length = len(text)
        start = length - len(text.lstrip())
        for candidate in _CANDIDATE.finditer(text, start):
            first, stop = candidate.span(1)
            end, after = candidate.span(2)
            if after == length:
                break
            if after - end == 1 and text[end] == " " and text[first] != "\n":
                informal = end == stop and text[first] in "?!"
                ends = _stop_ends(text, start, first, stop, after, informal)
            elif after == end and text[first] != "\n":
                ends = text[stop - 1] in _CJK_STOPS and _bare_stop_ends(text, stop, after)
            else:
                end = _rstrip_end(text, end if text[first] != "\n" else first)
                ends = _gap_ends(text, start, candidate, end)
            if ends:
                spans.append((start, end))
                start = after
        if start < length:
            spans.append((start, _rstrip_end(text, length)))
        return spans


def _rstrip_end(text: str, end: int) -> int:
    while end and text[end - 1].isspace():
        end -= 1
    return end


def _bare_stop_ends(text: str, stop: int, after: int) -> bool:
    """Return True if a Chinese or Japanese stop ends a sentence, not a quotation inside it."""
    return after == stop or text[after] not in "とっ、，,"


def _gap_ends(text: str, start: int, candidate: re.Match[str], end: int) -> bool:
    """Return True if a sentence ends before white space other than a single space."""
    first, stop = candidate.span(1)
    after = candidate.end()
    newlines = text.count("\n", end, after)
    if newlines > 1:
        return True
    begin = text.rfind("\n", 0, end) + 1 if newlines else 0
    if newlines and (_BLOCK.match(text, after) or _WHOLE_LINE.match(text, begin)):
        return True
    if text[first] == "\n":
        return _line_ends(text, begin, end, after)
    return _stop_ends(text, start, first, stop, after, newlines > 0)


def _line_ends(text: str, begin: int, end: int, after: int) -> bool:
    """Return True if a sentence ends at the end of a line without a stop, text[begin:end]."""
    if text[after].islower() or text[max(begin, end - _WINDOW) : end].split()[-1] in _DANGLING:
        return False
    width = end - begin
    if width not in _WRAP:
        return True
    # In hard-wrapped text the next word did not fit into a line as wide as its neighbours. The
    # width is reduced by an eighth, since lines of a PDF differ in their number of characters.
    previous_width = begin - 1 - (text.rfind("\n", 0, begin - 1) + 1) if begin else 0
    next_newline = text.find("\n", after)
    widest = max(previous_width, (next_newline if next_newline >= 0 else len(text)) - after)
    word = _FIRST_WORD.match(text, after)
    return word is None or 8 * (width + 1 + word.end() - after) < 7 * widest


def _stop_ends(text: str, start: int, first: int, stop: int, after: int, informal: bool) -> bool:
    """Return True if the stops text[first:stop] end the sentence that starts at `start`.

    A next word in lower case continues the sentence, unless the context is `informal` (a "?" or "!"
    outside quotes, or the end of a line) or the sentence itself starts in lower case.
    """
    if text[after] in ",;:)]}%/":
        return False
    following = _NEXT.match(text, after)
    if following is None:
        return False
    if following[1][:1].islower() and not (informal or text[start].islower()):
        return False
    if stop - first > 1 or text[first] != ".":
        return True
    return _period_ends(text, start, first, following)


def _period_ends(text: str, start: int, period: int, following: re.Match[str]) -> bool:
    """Return True if a single "." ends the sentence, judging by the words around it."""
    words = text[max(start, period - _WINDOW) : period].rsplit(None, 2)
    if not words:
        return True
    raw = words[-1]
    if len(raw) > _LONGEST and "." not in raw:
        return True
    word = raw.lstrip(_OPENERS)
    upcoming = following[1]
    if period - len(raw) == start and _OUTLINE.fullmatch(word):
        return False  # an outline number: "1. ", "2.3. ", "iv. ", "A. "
    if word.isdigit():
        return len(word) > 2 or upcoming not in _MONTHS
    if word in _NEVER_FINAL or (word == "etc" and upcoming[:1].islower()):
        return False
    if word in _NUMBERED:
        return not (_LABEL.fullmatch(upcoming) or upcoming[:1].islower())
    if len(word) == 1 and word.isalpha():
        if word.isupper() and len(words) > 1 and words[-2][-1].isdigit():
            return True  # a unit: "at 300 K. "
    elif word not in _MAYBE_FINAL and not _LETTERS.fullmatch(word):
        return True
    return upcoming in _STARTERS and not (len(upcoming) == 1 and following[2])
