import re
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from properties import examples
from tiers import smoke

from ragkit.chunking import chunker as chunking
from ragkit.chunking.chunker import Chunker, WordTokenizer
from ragkit.documents.records import to_document
from ragkit.types import Chunk, Document

PIECES = st.sampled_from(
    [*' \n.!?,;)"-|a漢3é\x00', "\n\n", "# ", "\n## A\n", "\n#\n", "The ", "so ", "longer ", "e.g. "]
)
TEXTS = st.lists(PIECES, max_size=80).map("".join) | st.text(max_size=80)


class FirstWordTokenizer:
    """Tokenizer that splits only the first word of a text into single characters.

    Like real tokenizers, it finds more tokens in a slice than in the slice's context.
    """

    def spans(self, texts):
        return [
            [
                span
                for number, match in enumerate(re.finditer(r"\S+", text))
                for span in (
                    [match.span()]
                    if number
                    else [(offset, offset + 1) for offset in range(match.start(), match.end())]
                )
            ]
            for text in texts
        ]


class CountingTokenizer(WordTokenizer):
    """Tokenizer that counts its calls."""

    def __init__(self):
        self.calls = 0

    def spans(self, texts):
        self.calls += 1
        return super().spans(texts)


class WholeText:
    """Segmenter that treats the whole text as one sentence, even across headers."""

    def sentences(self, text):
        bare = text.strip()
        start = text.find(bare)
        return [(start, start + len(bare))] if bare else []


def texts(text, metadata=None, **options):
    document = Document("d", text, metadata=metadata or {})
    return [chunk.text for chunk in Chunker(WordTokenizer(), **options).chunk(document)]


def headers(text):
    document = Document("d", text, metadata={"format": "markdown"})
    chunks = Chunker(WordTokenizer()).chunk(document)
    return [(chunk.text, chunk.metadata.get("headers")) for chunk in chunks]


def test_chunk_when_sentences_fit_then_packed_greedily():
    assert texts("One two. Three. Four five six. Seven.", max_tokens=5) == [
        "One two. Three.",
        "Four five six.",
        "Seven.",
    ]


def test_chunk_when_packed_then_ids_offsets_and_metadata_are_whole():
    document = Document("a/b", "It is. So.", metadata={"year": 2020, "pages": [0, 7]})
    assert Chunker(WordTokenizer(), max_tokens=3).chunk(document) == [
        Chunk("a/b:0-6", "a/b", "It is.", 0, 6, {"year": 2020, "page": 1}),
        Chunk("a/b:7-10", "a/b", "So.", 7, 10, {"year": 2020, "page": 2}),
    ]
    assert document.metadata == {"year": 2020, "pages": [0, 7]}


def test_chunk_when_overlap_then_trailing_sentences_are_repeated():
    text = "At it. So. Do be. Fly up on."
    assert texts(text, max_tokens=7, overlap=0) == ["At it. So.", "Do be. Fly up on."]
    assert texts(text, max_tokens=8, overlap=3) == ["At it. So. Do be.", "Do be. Fly up on."]
    assert texts(text, max_tokens=5, overlap=2) == ["At it. So.", "So. Do be.", "Fly up on."]
    assert texts(text, max_tokens=5, overlap=4) == ["At it. So.", "So. Do be.", "Fly up on."]


def test_chunk_when_sentence_is_too_long_then_split_at_clause_mark_or_space_or_token():
    assert texts("one two three four five six, seven eight nine.", max_tokens=8) == [
        "one two three four five six,",
        "seven eight nine.",
    ]
    assert texts("a b c d e f", max_tokens=4) == ["a b c d", "e f"]
    assert texts("+-+-+-+", max_tokens=3) == ["+-+", "-+-", "+"]


def test_chunk_when_long_sentence_is_split_then_its_pieces_are_not_repeated():
    assert texts("a b c d e f.", max_tokens=4, overlap=3) == ["a b c d", "e f."]


def test_chunk_when_only_white_space_then_none():
    assert texts(" \n\t ") == []


def test_chunk_when_markdown_then_headers_start_chunks_and_nest():
    text = "Intro.\n# One #\nText.\n### Deep\nMore.\n## Two\n# Three\nEnd."
    assert headers(text) == [
        ("Intro.", None),
        ("# One #\nText.", ["One"]),
        ("### Deep\nMore.", ["One", "Deep"]),
        ("## Two", ["One", "Two"]),
        ("# Three\nEnd.", ["Three"]),
    ]


def test_chunk_when_hashes_in_fence_or_word_then_no_header():
    text = "# A\n```sh\n# no\n~~~\n# no\n````\n# B\n#tag\n    # code\n~~~\n# open"
    assert [titles for _, titles in headers(text)] == [["A"], ["B"]]


def test_chunk_when_not_markdown_then_hashes_mean_nothing():
    assert texts("# A\nb.\n# C\nd.") == ["# A\nb.\n# C\nd."]


def test_chunk_when_sentence_runs_over_header_then_cut_there():
    markdown = {"format": "markdown"}
    assert texts("a\n# B\nc\n# D", markdown, segmenter=WholeText()) == ["a", "# B\nc", "# D"]


def test_chunk_when_pages_then_number_of_the_page_it_starts_on():
    document = Document("d", "A b. C d. E f.", metadata={"pages": [0, 4, 5, 12]})
    chunks = Chunker(WordTokenizer(), max_tokens=3).chunk(document)
    assert [chunk.metadata for chunk in chunks] == [{"page": 1}, {"page": 3}, {"page": 3}]


def test_chunk_when_long_document_then_tokenizer_is_called_twice():
    tokenizer = CountingTokenizer()
    Chunker(tokenizer, max_tokens=9).chunk(Document("d", "It is so. " * 100))
    assert tokenizer.calls == 2


def test_chunk_when_slices_have_more_tokens_than_in_context_then_still_within_budget():
    document = Document("d", "a b c d e f. Long one. Two it. Longest of all.")
    chunks = Chunker(FirstWordTokenizer(), max_tokens=6).chunk(document)
    assert [chunk.text for chunk in chunks] == [
        "a b c d e f.",
        "Long one.",
        "Two it.",
        "Longes",
        "t of all.",
    ]


@pytest.mark.parametrize(("max_tokens", "overlap"), [(0, 0), (-1, 0), (10, 10), (10, -1)])
def test_chunker_when_sizes_are_out_of_range_then_value_error(max_tokens, overlap):
    with pytest.raises(ValueError, match="expected"):
        Chunker(WordTokenizer(), max_tokens=max_tokens, overlap=overlap)


def test_settings_when_read_then_plain_values():
    assert Chunker(WordTokenizer()).settings == {
        "max_tokens": 200,
        "overlap": 0,
        "segmenter": "rules-1",
    }
    assert Chunker(WordTokenizer(), segmenter=WholeText()).settings["segmenter"] == "WholeText"


def test_word_tokenizer_when_marks_and_words_then_one_token_each():
    text = "T_c = 39 K."
    [spans] = WordTokenizer().spans([text])
    assert [text[start:end] for start, end in spans] == ["T_c", "=", "39", "K", "."]


@examples(250)
@example("\n## A\n .", 1, 0, WordTokenizer(), {}, None)
@example(". The . .", 3, 2, FirstWordTokenizer(), {}, None)
@example(". The \n## A\n.", 3, 2, FirstWordTokenizer(), {}, None)
@given(
    text=TEXTS,
    max_tokens=st.integers(1, 12),
    overlap=st.integers(0, 11),
    tokenizer=st.sampled_from([WordTokenizer(), FirstWordTokenizer()]),
    metadata=st.sampled_from([{}, {"format": "markdown"}]),
    segmenter=st.sampled_from([None, WholeText()]),
)
def test_chunk_when_any_text_then_the_invariants_hold(
    text, max_tokens, overlap, tokenizer, metadata, segmenter
):
    overlap = min(overlap, max_tokens - 1)
    chunker = Chunker(tokenizer, max_tokens=max_tokens, overlap=overlap, segmenter=segmenter)
    chunks = chunker.chunk(Document("d", text, metadata=metadata))
    assert chunks == chunker.chunk(Document("d", text, metadata=metadata))
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    covered = 0
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text == chunk.text.strip() != ""
        assert chunk.id == f"d:{chunk.start}-{chunk.end}"
        assert not text[covered : chunk.start].strip()
        if isinstance(tokenizer, WordTokenizer):
            repeated = text[chunk.start : max(covered, chunk.start)]
            assert len(WordTokenizer().spans([repeated])[0]) <= overlap
        covered = chunk.end
    assert not text[covered:].strip()
    counts = [len(spans) for spans in tokenizer.spans([chunk.text for chunk in chunks])]
    assert max(counts, default=0) <= max_tokens


@examples(150)
@given(text=TEXTS, max_tokens=st.integers(2, 30))
def test_chunk_when_markdown_then_headers_stand_only_at_the_start_of_chunks(text, max_tokens):
    document = Document(
        "d", text.replace("`", "").replace("~", ""), metadata={"format": "markdown"}
    )
    for chunk in Chunker(WordTokenizer(), max_tokens=max_tokens).chunk(document):
        for line in chunk.text.split("\n")[1:]:
            assert not re.match(r" {0,3}#{1,6}(\s|$)", line)


@pytest.mark.parametrize("piece", smoke(["a ", ".", "a", "a, ", "\n# a", "```\n", "\x00. "]))
def test_chunk_when_200_kilobytes_of_one_piece_then_all_is_kept(piece):
    text = piece * (200_000 // len(piece))
    document = Document("d", text, metadata={"format": "markdown"})
    chunks = Chunker(WordTokenizer()).chunk(document)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())


# Shorter than the smallest block, because longer sentences are cut at the end of a block.
SENTENCES = st.lists(
    st.sampled_from(["a", "Bc", "def", "It", "so,", "x" * 36]), min_size=1, max_size=3
).map(lambda words: " ".join(words) + ".")


@given(
    sentences=st.lists(SENTENCES, max_size=120),
    max_tokens=st.integers(1, 3),
    overlap=st.integers(0, 2),
)
def test_chunk_when_tokenized_block_by_block_then_as_if_at_once(sentences, max_tokens, overlap):
    document = Document("d", "\n\n".join(sentences))
    results = []
    for block in (1, 1 << 20):
        with mock.patch.object(chunking, "_BLOCK", block):
            chunker = Chunker(
                WordTokenizer(), max_tokens=max_tokens, overlap=min(overlap, max_tokens - 1)
            )
        results.append(chunker.chunk(document))
    assert results[0] == results[1]


def test_chunk_when_a_text_is_one_endless_word_then_its_chunks_are_bounded():
    text = "QUJD" * 20_000
    chunks = Chunker(WordTokenizer(), max_tokens=10).chunk(Document("d", text))
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(len(chunk.text) for chunk in chunks) == 320


def rows_of(n_rows: int) -> str:
    rows = "".join(f"\n| V-{i} | {i}.5 |" for i in range(n_rows))
    return f"| valve | pressure / bar |\n| --- | --- |{rows}"


HEADER = "| valve | pressure / bar |"


def chunk_words(text: str, max_tokens: int, **metadata: object) -> list[tuple[str, object]]:
    chunker = Chunker(WordTokenizer(), max_tokens=max_tokens)
    chunks = chunker.chunk(Document("d", text, metadata=metadata))
    assert all(text[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    return [(chunk.text, chunk.metadata.get("table")) for chunk in chunks]


def test_chunk_when_a_table_is_long_then_each_of_its_chunks_has_the_header():
    # The header row has 7 tokens, the delimiter row 9, a row 8 or 9; later chunks pay 7 of 30.
    assert chunk_words(rows_of(6), 30) == [
        ("| valve | pressure / bar |\n| --- | --- |\n| V-0 | 0.5 |", None),
        ("| V-1 | 1.5 |\n| V-2 | 2.5 |", HEADER),
        ("| V-3 | 3.5 |\n| V-4 | 4.5 |", HEADER),
        ("| V-5 | 5.5 |", HEADER),
    ]


def test_chunk_when_a_table_follows_text_or_stands_in_a_list_or_quote_then_it_has_its_header():
    bare = rows_of(2)
    indented = bare.replace("\n", "\n  ")
    forms = {
        f"Pressures.\n{bare}": "| V-1 | 1.5 |",
        f"- item\n\n  {indented}": "| V-1 | 1.5 |",
        f"- {indented}": "| V-1 | 1.5 |",
        "> " + bare.replace("\n", "\n> "): "> | V-1 | 1.5 |",
        "valve | pressure / bar\n:-- | --:\nV-0 | 0.5\nV-1 | 1.5": "V-1 | 1.5",
        f"{bare}\n\nNo row | here.": "| V-1 | 1.5 |",
    }
    for text, row in forms.items():
        assert (row, HEADER) in chunk_words(text, 16), text
    assert chunk_words(f"{bare}\n\nNo row | here.", 16)[-1] == ("No row | here.", None)


def test_chunk_when_bars_are_no_table_then_there_is_no_header():
    for text in (
        f"```\n{rows_of(2)}\n```",  # code
        rows_of(2).replace("| --- | --- |", "| --- |"),  # another number of cells
        "a | b\nc | d",  # no delimiter row
        "One\n---\nTwo | three.",  # an underlined heading
        rows_of(2).replace(HEADER, "|  |  |"),  # an empty header
    ):
        assert {header for _, header in chunk_words(text, 12)} == {None}, text


def test_chunk_when_a_row_holds_sentences_then_it_stays_whole_if_it_fits():
    row = "| V-1 | It leaks. Nobody knows why. Call Dr. Foo. |"
    text = f"| valve | note |\n| --- | --- |\n| V-0 | Fine. |\n{row}"
    assert chunk_words(text, 24)[-1] == (row, "| valve | note |")


def test_chunk_when_it_begins_inside_a_row_then_its_header_has_the_key_and_its_columns():
    cells = [f"c{i} value" for i in range(6)]
    row = "| V-70 | " + " | ".join(cells) + " |"
    text = "| valve | " + " | ".join("abcdef") + " |\n" + "| --- " * 7 + "|\n" + row
    pieces = chunk_words(text, 15)
    assert ("c3 value | c4 value | c5 value |", "| valve: V-70 | d | e | f |") in pieces
    assert "".join("".join(piece for piece, _ in pieces).split()) == "".join(text.split())


def test_chunk_when_the_header_is_huge_then_what_goes_along_is_bounded():
    names = " | ".join(f"column {i}" for i in range(200))
    text = f"| {names} |\n{'| --- ' * 200}|\n" + "| 1 | 2 |\n" * 30
    headers = {header for _, header in chunk_words(text, 40)} - {None}
    assert f"| {names} |"[:599] + "…" in headers
    assert all(len(str(header)) <= 600 for header in headers)


def test_chunk_when_the_document_has_a_field_named_table_then_it_stays_a_field():
    assert chunk_words("One. Two.", 3, table="users") == [("One.", "users"), ("Two.", "users")]


def test_chunk_when_markdown_headings_are_underlined_then_they_start_chunks():
    text = "Top\n===\n\nOne.\n\nA long\nheading\n---\nTwo.\n\n- item\n---\n#tag\n\n    # code\n"
    chunks = Chunker(WordTokenizer()).chunk(Document("d", text, metadata={"format": "markdown"}))
    assert [(chunk.text, chunk.metadata["headers"]) for chunk in chunks] == [
        ("Top\n===\n\nOne.", ["Top"]),
        (
            "A long\nheading\n---\nTwo.\n\n- item\n---\n#tag\n\n    # code",
            ["Top", "A long heading"],
        ),
    ]


def test_chunk_when_a_row_has_100000_cells_then_its_parts_are_made_in_linear_time():
    text = f"| a | b |\n| --- | --- |\n|{' 1 |' * 100_000}"
    chunks = Chunker(WordTokenizer(), max_tokens=500).chunk(Document("d", text))
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
    assert chunks[-1].metadata["table"] == "| a: 1 |"


RECORD = {"code": "V-70", "note": "Grease it. " * 40, "text": "A valve. " * 30, "size": 3}


@pytest.mark.parametrize("form", ["csv", "json", "jsonl"])
def test_chunk_when_a_record_has_long_values_then_each_part_names_its_field(form):
    document = to_document(RECORD, "d", "f", form)
    chunks = Chunker(WordTokenizer(), max_tokens=60).chunk(document)
    starts = {name: document.text.index(f"{name}: ") for name in ("code", "note", "size")}
    for chunk in chunks:
        inside = max((n for n in starts if starts[n] < chunk.start), key=starts.get, default="")
        begins = chunk.start in starts.values()
        expected = {"code": "| code |", "note": "| code: V-70 | note |", "": ""}[inside]
        assert chunk.table == ("" if begins else expected)
    assert sum(chunk.table == "| code: V-70 | note |" for chunk in chunks) >= 2
    plain = Document("d", document.text, metadata={**document.metadata, "format": "text"})
    assert not any(chunk.table for chunk in Chunker(WordTokenizer(), max_tokens=60).chunk(plain))


def test_chunk_when_a_records_value_has_bars_then_no_field_is_taken_for_a_header():
    document = to_document({"a": "x | y. " * 60}, "d", "f", "csv")
    chunks = Chunker(WordTokenizer(), max_tokens=40).chunk(document)
    assert len(chunks) > 2
    assert not any(chunk.table for chunk in chunks)
