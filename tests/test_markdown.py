from ragkit.markdown import find_headings, find_tables, join_row, name_cells, split_row, write_table


def test_find_headings_when_lines_are_marked_or_underlined_finds_their_names_and_levels():
    text = "# One #\n\n ##  C#\n\nTwo\n===\nThree\nlines  \n---\n#\n"
    found = [(text[h.start : h.end], h.level, h.name) for h in find_headings(text)]
    assert found == [
        ("# One #", 1, "One"),
        (" ##  C#", 2, "C#"),
        ("Two\n===", 1, "Two"),
        ("Three\nlines  \n---", 2, "Three lines"),
        ("#", 1, ""),
    ]


def test_find_headings_when_there_is_no_heading_finds_none():
    for text in (
        "#tag",
        "    # code",
        "```\n# code\nA\n===\n```",
        "~~~\n# never closed",
        "\n---\n",
        "- item\n---",
        "> quote\n---",
        "1. item\n===",
        "    code\n---",
        "| a | b |\n---",
        "a | b\n---",
        "Regards\n-- \nAnn",
        f"{'long ' * 50}\n---",
        "a\n= =",
    ):
        assert find_headings(text) == [], text


def test_find_tables_when_a_chunk_begins_inside_one_finds_its_rows():
    header = "| a | b |"
    for text, rows in {
        "| 1 | 2 |\n| 3 | 4 |\n\nText": ["| 1 | 2 |", "| 3 | 4 |"],
        "| --- | --- |\n| 1 | 2 |": ["| 1 | 2 |"],
        "2 |\n| 3 | 4 |": ["2 |", "| 3 | 4 |"],
        "rest of a cell\n| 3 | 4 |": ["| 3 | 4 |"],
    }.items():
        [table] = find_tables(text, header)
        assert [text[start:end] for start, end in table.rows] == rows, text
        assert table.header == header
    assert find_tables("rest of a cell", header) == []


def test_find_tables_when_two_follow_each_other_finds_both():
    text = "| a |\n| - |\n| 1 |\n\n| b |\n| - |\ntext\n\nc | d\n- | -\n"
    assert [(t.header, [text[slice(*row)] for row in t.rows]) for t in find_tables(text)] == [
        ("| a |", ["| 1 |"]),
        ("| b |", []),
        ("| c | d |", []),
    ]


def test_split_row_when_joined_before_gives_the_cells():
    for cells in (["a", "b"], ["", ""], ["a|b", "c\\d"], ["x"], ["|", ""]):
        assert split_row(join_row(cells)) == cells
    text = write_table(["a|b", "c"], [["1\n2", ""]])
    [table] = find_tables(text)
    assert (table.header, text[slice(*table.rows[0])]) == ("| a\\|b | c |", "| 1 2 |  |")


def test_name_cells_when_the_row_has_not_the_cells_of_the_header_stays_as_it_is():
    header = "| a | b | c |"
    for row, named in {
        "| 1 | 2 | 3 |": "a: 1; b: 2; c: 3",
        "| 1 |  | x\\|y |": "a: 1; c: x|y",
        "| 1 | 2 |": "a: 1; b: 2",
        "1 | 2 | 3": "a: 1; b: 2; c: 3",
        "> | 1 | 2 | 3 |": "a: 1; b: 2; c: 3",
        "2 | 3 |": "2 | 3 |",
        "| 1 | 2 | 3 | 4 |": "| 1 | 2 | 3 | 4 |",
        "|  |  |  |": "|  |  |  |",
    }.items():
        assert name_cells(row, header) == named, row
    assert name_cells("| 1 | 2 |", "") == "| 1 | 2 |"
    assert name_cells("| 1 | 2 |", "| a | b, cut …") == "| 1 | 2 |"
    assert name_cells("| 1 | 2 |", "|  | b |") == "1; b: 2"
