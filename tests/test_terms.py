"""Words as people write them: every member of a kind finds its like, and nothing else does."""

# ruff: noqa: RUF001 - characters of other scripts
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
from properties import examples

from ragkit.indexes.bm25 import BM25Index, Postings
from ragkit.indexes.terms import TermAnalyzer
from ragkit.normalize import fold, normalize


def _terms(text, language="english"):
    return TermAnalyzer(language).terms(text)


def _best(query, texts):
    """Return the index of the best text, or None if no text has a term of the query."""
    analyzer = TermAnalyzer()
    index = BM25Index(Postings.build(analyzer.batch(texts)))
    row = int(index.search([analyzer.terms(query)], 1)[1][0, 0])
    return None if row < 0 else row


def test_terms_when_words_differ_in_one_character_or_mark_find_their_own():
    cases = {
        "How much vitamin K?": ["vitamin C: 90 mg", "vitamin D: 15 mcg", "vitamin K: 120 mcg"],
        "vitamin A": ["Vitamin C is a vitamin.", "Vitamin E is a vitamin.", "It has vitamin A."],
        "is it vitamin a?": ["a vitamin C pill", "a vitamin E pill", "It has vitamin A."],
        "type I error": ["a type II error", "a type B error", "a type I error"],
        "Python 3.10": ["Python 3.1 is old", "Python 3.11, 10 new parts", "Python 3.10 is new"],
        "v2.0.1": ["version 2.0.2", "version 2.1.0", "version 2.0.1"],
        "error E-9": ["error E-90: stop", "error F-9: go", "error E-9: turn"],
        "pump E9": ["pump E-90", "pump F-9", "pump E-9"],
        "C++ lists": ["lists in C", "lists in C#", "lists in C++"],
        "C# lists": ["lists in C", "lists in C++", "lists in C#"],
        "a .NET service": ["a net service", "a network service", "a .NET service"],
        "AT&T": ["at a time", "T and T", "AT&T"],
        "I/O": ["I owe", "O and I am", "slow I/O"],
        "USA": ["use it", "us", "in the U.S.A. today"],
        "0.05": ["at 0.5", "at 5.0", "at 0.05"],
        "10000 steps": ["1,000 steps", "100,000 steps", "10,000 steps"],
        "3.5 percent": ["35 percent", "3 percent", "3,5 percent"],
        "90 mg": ["90 g", "9 mg", "90mg"],
        "10^5 atoms": ["105 atoms", "10⁶ atoms", "10⁵ atoms"],
        "at 10:30": ["at 10:45", "at 9:30", "at 10:30"],
        "Na+ ions": ["Na atoms, ions", "K+ ions", "Na+ ions"],
        "the IT group": ["the group, it is", "a group", "the IT group"],
        "chapter B.2": ["chapter B.1", "chapter C.2", "chapter B.2"],
        "node.js": ["a js tree", "a node", "in Node.js"],
    }
    assert {query: _best(query, texts) for query, texts in cases.items()} == dict.fromkeys(cases, 2)


def test_terms_when_identifiers_are_searched_by_their_parts_find_them():
    cases = {
        "user name": "getUserName()",
        "max tokens": "set_max_tokens = 3",
        "server": "class HTTPServer",
        "http": "class HTTPServer",
        "timeout": "READ_TIMEOUT",
        "user id": "userID",
        "parse": "json.parseValue",
    }
    for query, text in cases.items():
        assert _best(query, ["another line", text]) == 1, query
    for name in ("getUserName", "set_max_tokens", "HTTPServer"):
        assert _best(name, ["get user name, set max tokens, http server", f"a {name} b"]) == 1, name
    assert _terms("GaAs iPhone EPIC mRNA McDonald") == ["gaa", "iphon", "epic", "mrna", "mcdonald"]


def test_terms_when_a_word_is_broken_at_a_line_end_find_it():
    for broken in (
        "conduc-\ntivity",
        "conduc- \n   tivity",
        "conduc\u00ad\ntivity",
        "conduc\u00adtivity",
    ):
        assert _best("conductivity", ["a metal", f"its {broken} is high"]) == 1, broken
    for text in ("well-known\nfact", "X-\nray", "- a\n- b"):
        assert not {"wellknown", "knownfact", "xray", "ab"} & set(_terms(text)), text
    assert _best("state of the art", ["other", "a state-of-the-\nart plant"]) == 1


PLAIN = {
    "finance": ["ﬁnance", "ｆｉｎａｎｃｅ", "fin\u200bance", "fi\u00adnance", "FINANCE", "𝐟𝐢𝐧𝐚𝐧𝐜𝐞"],
    "TiO2": ["TiO₂", "TiO\u2082", "ＴｉＯ２"],
    "café": ["cafe\u0301", "CAFÉ"],
    "5 μm": ["5 µm", "5\u00a0µm", "5\u202fμm"],
    "100 Ω": ["100 Ω", "100 Ω"],
    "Å": ["Å", "A\u030a"],
    "straße": ["STRASSE", "strasse"],
    "istanbul": ["İstanbul", "ISTANBUL", "ıstanbul", "i\u0307stanbul"],
    "كتاب": ["كِتَاب", "كتـــاب"],
    "שלום": ["שָׁלוֹם"],
    "हिन्दी": ["हि\u200dन्दी", "हि\u200cन्दी"],
    "क़लम": ["क\u093cलम"],
    "٣٥": ["35", "３５", "३५"],
    "e-mail": ["e‐mail", "e‑mail", "e–mail"],
    "o'clock": ["o’clock", "oʼclock"],
    "ガス": ["ｶﾞｽ", "カ\u3099ス"],
    "한글": [unicodedata.normalize("NFD", "한글")],
    "❤": ["❤\ufe0f"],
    "iPhone": ["iPhone™"],
    "१०": ["10"],
}


def test_normalize_when_a_text_is_spelled_in_other_ways_gives_one_form():
    for plain, others in PLAIN.items():
        assert {fold(other).strip() for other in others} == {fold(plain)}, plain
        assert {tuple(_terms(other)) for other in others} == {tuple(_terms(plain))}, plain


def test_normalize_when_numbers_are_raised_keeps_them_apart():
    cases = {
        "3 × 10⁵": "3 × 10^5",
        "10⁻⁵": "10^-5",
        "10⁺²": "10^+2",
        "m²": "m2",
        "cm⁻¹": "cm^-1",
        "¹³C": "13C",
        "H₂O": "H2O",
        "C₆₀": "C60",
        "Ca²⁺": "Ca2+",
        "1½ l": "1 1/2 l",
        "½": "1/2",
        "3①": "3 1",
        "1995¹": "1995^1",
        "１０": "10",
        "x−y": "x-y",
        "25℃": "25°C",
    }
    assert {text: normalize(text) for text in cases} == cases


@given(st.text(max_size=40))
@examples(300)
def test_normalize_when_done_twice_or_in_another_form_stays(text):
    once = normalize(text)
    assert normalize(once) == once
    if "\u0307" not in unicodedata.normalize("NFD", text):
        assert normalize(unicodedata.normalize("NFC", text)) == once


def test_terms_when_a_script_has_no_spaces_find_words_inside():
    pairs = {
        "糖尿病": "糖尿病患者需要饮食控制。",
        "病": "糖尿病患者需要饮食控制。",
        "超伝導": "高温超伝導体の研究",
        "バンドギャップ": "窒化ガリウムのバンドギャップは3.4 eVである。",
        "데이터베이스": "데이터베이스를 설치한다",
        "책": "나는 책을 읽는다",
        "กรุงเทพ": "ฉันอยู่กรุงเทพมหานคร",
        "ນະຄອນ": "ນະຄອນຫຼວງວຽງຈັນ",
        "ភ្នំពេញ": "ទីក្រុងភ្នំពេញធំ",
        "မြန်မာ": "မြန်မာနိုင်ငံ",
        "GaN": "窒化GaN結晶",
    }
    texts = list(pairs.values())
    for query, text in pairs.items():
        assert texts[_best(query, texts)] == text, query
    assert _best("糖尿病", ["尿糖病", "有糖尿病"]) == 1  # the order of characters counts
    assert _best("猫", ["有糖尿病"]) is None


def test_terms_when_words_are_contracted_or_initials_leave_no_letters():
    assert _terms("It's John's, don't; I'm") == ["john", "don"]
    assert _terms("l'eau d'or, aujourd'hui", "french") == ["eau", "or", "aujourd", "hui"]
    assert _terms("Gear, C. W. and J. Smith, e.g. or i.e.") == ["gear", "smith"]
    assert _terms("rich in vitamin C. The rest") == ["rich", "vitamin", "c", "rest"]


def test_terms_when_the_text_is_hostile_end():
    for part in ("a-", "1.", "A.", "a'", "C+", "aB", "-\n", "_a", "糖", "\u00ad", "a b-\n", "9z"):
        assert isinstance(_terms(part * 50_000), list), part


@given(st.text(max_size=60))
@examples(300)
def test_terms_of_any_text_are_stable_and_without_spaces(text):
    terms = _terms(text)
    assert terms == _terms(text)
    assert all(term and not any(char.isspace() for char in term) for term in terms)


def test_terms_when_the_text_is_ascii_prose_are_the_words():
    prose = "Silicon is an indirect semiconductor with a band gap of one electron volt"
    assert _terms(prose) == [
        "silicon", "indirect", "semiconductor", "band", "gap", "one", "electron", "volt"
    ]  # fmt: skip
    assert _terms("THE BAND GAP IS IN A TABLE") == ["band", "gap", "tabl"]
