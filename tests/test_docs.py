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
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            if not target.startswith("http"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"


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
