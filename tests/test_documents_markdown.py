from typing import Any

from ragkit.documents.load import read_stream
from ragkit.types import Document


def load(text: str) -> tuple[Document, list[str]]:
    result = read_stream(text, format="markdown")
    [document] = result.documents
    return document, [f"{loss.lost}: {loss.why}" for loss in result.losses]


def fields_of(front: str, mark: str = "---") -> dict[str, Any]:
    document, losses = load(f"{mark}\n{front}\n{mark}\nbody\n")
    assert (document.text, losses) == ("body\n", [])
    return {key: value for key, value in document.metadata.items() if key != "format"}


def test_front_matter_when_yaml_values_are_scalars_then_only_exact_numbers_have_types():
    assert fields_of(
        "a: 3.10\nb: 012\nc: 2021-03-04\nd: yes\ne: 0x1F\nf: 1_000\ng: 12:30:45\nh: 12E4\ni: .inf\n"
        'j: 42\nk: -0.5\nl: true\nm: "42"\nn: ~\no:\np: !!float 1\nq: It is.  # a comment'
    ) == {
        **{"a": "3.10", "b": "012", "c": "2021-03-04", "d": "yes", "e": "0x1F", "f": "1_000"},
        **{"g": "12:30:45", "h": "12E4", "i": ".inf", "j": 42, "k": -0.5, "l": True, "m": "42"},
        **{"p": 1, "q": "It is."},
    }


def test_front_matter_when_yaml_has_blocks_quotes_and_maps_then_read():
    front = (
        "folded: >\n  one\n  two\n\n  three\nliteral: |\n  one\n    two\nplain: one\n  two\n"
        "'quoted key': 1\n\"other: key\": 2\nlist:\n- a\n- b\nflow: [a,\n  b]\n"
        "by:\n  name: Ann\n  at: {city: Bonn}\nempty: {}\nanchored: &x 5"
    )
    assert fields_of(front) == {
        "folded": "one two\nthree",
        "literal": "one\n  two",
        "plain": "one two",
        "quoted key": 1,
        "other: key": 2,
        "list": ["a", "b"],
        "flow": ["a", "b"],
        "by.name": "Ann",
        "by.at.city": "Bonn",
        "empty": {},
        "anchored": 5,
    }


def test_front_matter_when_a_value_is_not_yaml_then_its_text_is_kept_or_a_loss():
    assert fields_of("a: Foo: a bar\nb: @me\nc: [1, 2\nd: 50% off\ne: *x") == {
        **{"a": "Foo: a bar", "b": "@me", "c": "[1, 2", "d": "50% off", "e": "*x"}
    }
    document, losses = load("---\na: 1\nb: {x: 1\n  y\nc: 2\na: 3\n---\nbody")
    assert document.metadata == {"a": 1, "c": 2, "format": "markdown"}
    assert [loss.split(": ")[:2] for loss in losses] == [
        ["3 lines of front matter", "it is not YAML"]
    ]


def test_front_matter_when_toml_then_read():
    front = (
        'title = "T"\nversion = 3.10\nyear = 2020\nwhen = 2021-03-04\ndraft = false\n'
        'tags = ["a", "b"]\n[by]\nname = "Ann"'
    )
    document, losses = load(f"+++\n{front}\n+++\n\n# Head\n")
    assert (document.title, document.text, losses) == ("T", "# Head\n", [])
    assert document.metadata == {
        **{"version": "3.10", "year": 2020, "when": "2021-03-04", "draft": False},
        **{"tags": ["a", "b"], "by.name": "Ann", "format": "markdown"},
    }
    document, [loss] = load("+++\na = \n+++\nbody")
    assert (document.text, loss.split(":")[0]) == ("body", "1 lines of front matter")


def test_front_matter_when_hostile_then_the_text_is_read_with_a_loss():
    bomb = "a: {x: &x [1,1,1,1,1,1,1,1,1,1]" + "".join(
        f", x{i}: &x{i} [{', '.join([f'*x{i - 1}' if i else '*x'] * 10)}]" for i in range(8)
    )
    for front in (
        f"{bomb}}}\nb: 2\n{bomb}}}",
        "a:\n " + "- " * 20_000,
        "a:\n  b: " + "[" * 20_000,
        "\n".join(f"{' ' * i}a:" for i in range(400)),
        "k: " + "x" * 100_000 + "\nb: 1",
        "a: &a [*a]\nb:\n  - *c",
    ):
        document, losses = load(f"---\n{front}\n---\nbody")
        assert (document.text, len(losses)) == ("body", 1), front[:50]
    for front in ("a = " + "[" * 20_000, "a" + ".a" * 40_000 + " = 1", "a = '" + "x" * 20_000):
        document, losses = load(f"+++\n{front}\n+++\nbody")
        assert (document.text, len(losses)) == ("body", 1), front[:50]


def test_front_matter_when_a_text_only_begins_with_a_rule_then_none():
    for text in ("---\nno field\n---\nx", "---\n---\nx", "+++\nx", "---\nkey: open\n", "---"):
        assert load(text)[0].text == text


def test_markdown_title_when_the_heading_is_underlined_then_found():
    for text, title in {
        "Head\n====\ntext": "Head",
        "Two\nlines\n=====": "Two lines",
        "intro\n\n  Head  \n===\n# Other": "Head",
        "Second\n---\n": "",
        "```\nHead\n====\n```\n# Real": "Real",
        "    Head\n====\n# Real": "Real",
        "- item\n====\n# Real": "Real",
        "#tag\n====\n": "#tag",
        " # Indented": "Indented",
        "    # code\n# Real": "Real",
    }.items():
        assert load(text)[0].title == title, text


def test_markdown_table_when_read_then_it_stays_as_it_is():
    text = "# T\na | b\n:-- | --:\n1 \\| 2 | 3\n"
    assert load(text)[0].text == text
