import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_cli_reference_when_rendered_equals_the_page():
    page = runpy.run_path(str(ROOT / "docs" / "cli_reference.py"))
    assert page["render"]() == (ROOT / "docs" / "cli.md").read_text(), (
        "run python docs/cli_reference.py"
    )


def test_links_when_followed_exist():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]:
        for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", page.read_text()):
            if target.startswith("http"):
                continue
            linked = page.parent / target if target else page
            assert linked.exists(), f"{page.name}: {target}"
            assert not anchor or anchor in anchors(linked), f"{page.name}: {target}#{anchor}"


def anchors(page):
    headings = re.findall(r"^#+ (.*)", page.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_index_when_read_links_every_page():
    linked = set(re.findall(r"\]\(([^)/]+\.md)\)", (ROOT / "docs" / "index.md").read_text()))
    assert linked == {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"}


def test_architecture_when_read_names_what_exists():
    page = (ROOT / "docs" / "architecture.md").read_text()
    spans = {span for span in re.findall(r"`([^`]+)`", page) if "NAME" not in span}
    paths = {span for span in spans if re.fullmatch(r"[\w.]+/[\w./]*", span)}
    assert not {path for path in paths if not (ROOT / path).exists()}
    code = "\n".join(path.read_text() for path in sorted(ROOT.glob("ragkit/**/*.py")))
    defined = set(re.findall(r"(?:def|class) (\w+)", code))
    defined |= set(re.findall(r"^ *(\w+)(?::| =)", code, re.M))  # constants, fields, arguments
    names = {span for span in spans if re.fullmatch(r"_?[A-Z]\w+(\.\w+)?|\w+_\w+", span)}
    assert not {name for name in names if not set(name.split(".")) <= defined}


def test_readme_when_read_has_its_first_screen_on_thirty_lines():
    first = README.split("<!-- end of the first screen -->")[0].splitlines()
    assert len(first) <= 30, len(first)
    for needed in ("make demo", "make test", "```python", "```console"):
        assert needed in "\n".join(first)


@pytest.fixture
def checkout(tmp_path):
    """A folder that looks like the checkout from inside."""
    (tmp_path / "notebooks").symlink_to(ROOT / "notebooks")
    return tmp_path


def test_readme_python_when_run_prints_what_it_says(checkout):
    code, expected = re.search(r"```python\n(.*?)```\n+```text\n(.*?)```", README, re.S).groups()
    assert len([line for line in code.splitlines() if line.strip()]) <= 8
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True
    )
    assert run.stdout == expected


@pytest.mark.models
def test_readme_console_when_run_prints_what_it_says(checkout):
    for block in re.findall(r"```console\n(.*?)```", README, re.S):
        steps = re.split(r"^\$ ", block, flags=re.M)[1:]
        for step in steps:
            command, _, expected = step.partition("\n")
            arguments = shlex.split(command)
            if arguments[0] != "ragkit":
                continue
            if ">" in arguments:
                at = arguments.index(">")
                out = checkout / arguments[at + 1]
                arguments = arguments[:at]
            else:
                out = None
            run = subprocess.run(
                [sys.executable, "-m", "ragkit", *arguments[1:]],
                cwd=checkout, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if out:
                out.write_text(run.stdout)
            else:
                assert run.stdout == expected, run.stderr
