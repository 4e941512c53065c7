from ragkit.chunking import Chunker
from ragkit.chunking.chunker import WordTokenizer
from ragkit.readers.codes import find_codes, has_code
from ragkit.readers.extractive import ExtractiveReader, with_codes
from ragkit.testing import HashEmbedder
from ragkit.types import Answer, Chunk, Document, Hit


def test_find_codes_when_words_mix_letters_and_digits_or_have_a_dot_finds_them():
    questions = {
        "What is the pressure of valve V-70?": ["V-70"],
        "Who handles error E-9, E9 or e-10?": ["E-9", "E9", "e-10"],
        "What changed in 3.10?": ["3.10"],
        "What is new in v1.2.3?": ["v1.2.3"],
        "Is TiO₂ or Fe2O3 used?": ["TiO2", "Fe2O3"],
        "What is mp-2534 (COVID-19)?": ["mp-2534", "COVID-19"],
        "How strong is 316L, 7075-T6 or 4x4?": ["316L", "7075-T6", "4x4"],
        "Which part is 12-A/3?": ["12-A/3"],
    }
    assert {question: find_codes(question) for question in questions} == questions


def test_find_codes_when_numbers_are_plain_finds_none():
    for question in (
        "What happened in 1995, the 1990s, 1990-1995 or the 19th century?",
        "How many of the 12 apostles, 1,000 men or 24/7 shops on 9/11?",
        "What weighs 50kg, 300K, 5nm or 3.2GHz, 2.5 bar, 1.5 million, $3.50, 4.2 % or 2.5 metres?",
        "Who was first?",
    ):
        assert find_codes(question) == [], question


def test_has_code_when_a_longer_or_shorter_one_stands_there_is_false():
    for text in ("V-7", "V-700", "V-70-2", "V-70.1", "V-70-B", "AV-70", "1V-70", "W-V-70", "V_70"):
        assert not has_code(f"The valve {text} leaks.", "V-70"), text
    assert not has_code("Python 3.1, 3.100, 13.10 and 3.10.2", "3.10")
    assert not has_code("1.5e-9 and E-90", "E-9")


def test_has_code_when_it_is_written_otherwise_is_true():
    for text in (
        "V-70",
        "(v-70)",
        "V-70.",
        "V\u201170's",
        "V70",
        "V 70",
        "V-70/V-71",
        "V-70-rated",
    ):
        assert has_code(f"The valve {text} leaks.", "V-70"), text
    assert has_code("of TiO₂-based cells", "TiO2")
    assert has_code("| 3.10 |", "3.10")


def table_hits(first: int, last: int) -> list[Hit]:
    rows = "\n".join(f"| V-{i} | {i + 1}.5 |" for i in range(first, last))
    text = f"| valve | pressure / bar |\n| --- | --- |\n{rows}"
    chunks = Chunker(WordTokenizer(), max_tokens=60).chunk(Document("d", text))
    assert len(chunks) > 1
    return [Hit(chunk, 1.0) for chunk in chunks]


def ask(question: str, hits: list[Hit]) -> Answer:
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0, max_sentences=1)
    return reader.read([question], [hits])[0]


def test_extractive_when_a_code_is_named_quotes_its_row_with_the_column_names():
    hits = table_hits(0, 80)
    for number in (0, 7, 70):
        answer = ask(f"What is the pressure of valve V-{number}?", hits)
        assert answer.text == f"valve: V-{number}; pressure / bar: {number + 1}.5 [1]"
        [citation] = answer.citations
        assert citation.quote == f"| V-{number} | {number + 1}.5 |"
        assert citation.table == "| valve | pressure / bar |"


def test_extractive_when_no_passage_has_the_code_refuses():
    answer = ask("What is the pressure of valve V-70?", table_hits(700, 720))
    assert (answer.text, answer.refusal and answer.refusal.reason) == ("", "no_evidence")


def test_extractive_when_the_title_or_a_heading_has_the_code_quotes_the_passage():
    text = "The pressure is 5 bar."
    for metadata in ({"title": "Valve V-70"}, {"headers": ["Valves", "V-70"]}):
        wrong = Hit(Chunk("e:0-22", "e", text, 0, 22, {"title": "Valve V-71"}), 1.0)
        right = Hit(Chunk("d:0-22", "d", text, 0, 22, metadata), 0.5)
        answer = ask("What is the pressure of V-70?", [wrong, right])
        assert [citation.doc_id for citation in answer.citations] == ["d"]


def test_extractive_when_two_codes_are_named_quotes_what_has_most_of_them():
    rows = ["V-70 at S-1 holds 5 bar.", "V-71 at S-3 holds 6 bar.", "V-70 at S-3 holds 7 bar."]
    hits = [Hit(Chunk(row, row[:4], row, 0, len(row)), 1.0) for row in rows]
    assert ask("What does V-70 at S-3 hold?", hits).text == "V-70 at S-3 holds 7 bar. [1]"
    assert ask("What does V-71 at S-9 hold?", hits).text == "V-71 at S-3 holds 6 bar. [1]"


def test_extractive_when_a_table_has_headings_and_delimiters_quotes_rows_only():
    text = "Name\n====\n\n| name | age |\n|:---|---:|\n| Ada. B | 36 |\n\n#1 in the world is Ada."
    reader = ExtractiveReader(HashEmbedder())
    hit = Hit(Chunk("d:0", "d", text, 0, len(text), {"format": "markdown"}), 1.0)
    assert [candidate.text for candidate in reader.candidates([hit])] == [
        "name: Ada. B; age: 36",
        "#1 in the world is Ada.",
    ]


def test_formula_without_digits_is_looked_for_and_its_absence_is_no_refusal():
    hits = [
        Hit(Chunk("a", "a", "MnO has a gap of 3.6 eV. NiO has a gap of 4.0 eV.", 0, 49), 1.0),
        Hit(Chunk("b", "b", "Salt has a gap of 8.5 eV.", 0, 25), 1.0),
    ]
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0, max_sentences=1)
    kept = with_codes("What is the gap of NiO?", hits, reader.candidates(hits))[1]
    assert [candidate.text for candidate in kept] == ["NiO has a gap of 4.0 eV."]
    assert len(with_codes("What is the gap of NaCl?", hits, reader.candidates(hits))[1]) == 3


def test_short_name_of_the_beginning_counts_for_the_whole_document():
    first = "Hafnium dioxide, HfO2, is an insulator."
    second = "The computed band gap is 4.02 eV."
    hits = [
        Hit(Chunk("d:0", "d", first, 0, len(first)), 1.0),
        Hit(Chunk("d:1", "d", second, 500, 500 + len(second)), 0.9),
        Hit(Chunk("e:0", "e", "The gap of MgO is 7 eV.", 0, 23), 0.8),
    ]
    reader = ExtractiveReader(HashEmbedder(), threshold=0.0)
    kept = with_codes("What is the gap of HfO2?", hits, reader.candidates(hits))[1]
    assert [candidate.text for candidate in kept] == [first, second]
