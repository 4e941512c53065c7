"""Every notebook runs from top to bottom, with no network, and shows what it says it shows.

    python tests/test_notebooks.py            # run them and write their outputs

Cells tagged "deterministic" must print the same text as in the committed file. The others hold
scores, whose last digits depend on the processor.
"""

import os
import re
import sys
import tempfile
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install ragkit-framework[notebooks]")
nbclient = pytest.importorskip("nbclient", reason="needs pip install ragkit-framework[notebooks]")
pytest.importorskip("ipykernel", reason="needs pip install ragkit-framework[notebooks]")

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SECONDS = 180  # for one cell; the first may convert the embedder's weights
PLACES = re.compile(
    r"/home/|/root/|/Users/|/tmp\b|/private/|/var/folders/|/work/|\b[A-Za-z]:\\\\?\w|site-packages"
)
# An audit hook sees every connection that Python makes, and cannot be taken off again.
GUARD = """\
import sys
LOOPBACK = ("127.0.0.1", "::1", "localhost", None)
def _guard(event, arguments):
    if event in ("socket.connect", "socket.sendto"):
        host = arguments[1][0] if isinstance(arguments[1], tuple) else None  # else a Unix socket
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in LOOPBACK:
        raise PermissionError(f"a notebook tried to reach {host}")
sys.addaudithook(_guard)
"""

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(path):
    """The notebook, executed in a fresh kernel in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(GUARD))
    client = nbclient.NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(path.parent)}},
    )
    with tempfile.TemporaryDirectory() as folder:  # where IPython keeps its history
        client.execute(env={**os.environ, "IPYTHONDIR": folder, "RAGKIT_OFFLINE": "1"})
    del notebook.cells[0]
    return clean(notebook)


def clean(notebook):
    """Without what changes from run to run: counts, times, the repr of what is shown as HTML."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for number, cell in enumerate(code_cells(notebook), start=1):
        cell.execution_count = number
        cell.metadata = {"tags": cell.metadata["tags"]} if "tags" in cell.metadata else {}
        for output in cell.outputs:
            if "execution_count" in output:
                output.execution_count = number
            if "text/html" in output.get("data", {}):
                output.data.pop("text/plain", None)
    return notebook


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell):
    """The mime types a cell shows. How a stream is cut into pieces is up to the machine's load."""
    return [sorted(output.data) for output in cell.outputs if output.output_type != "stream"]


def shown(cell):
    """The text of a cell's outputs."""
    return "".join(
        output.get("text", "") + output.get("data", {}).get("text/plain", "")
        for output in cell.outputs
    )


def test_notebooks_when_listed_then_there_is_one():
    assert NOTEBOOKS


@each_notebook
def test_notebook_when_committed_then_has_outputs_of_one_run_and_no_error(path):
    cells = code_cells(nbformat.read(path, as_version=4))
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) >= len(cells) - 2  # imports, clearing up
    outputs = [output for cell in cells for output in cell.outputs]
    assert all(output.output_type != "error" for output in outputs)
    assert all(output.get("name") != "stderr" for output in outputs)


@each_notebook
def test_notebook_when_committed_then_names_no_place_on_a_machine(path):
    text = path.read_text("utf-8")
    assert PLACES.findall(text) == []
    assert not any(str(place) in text for place in (ROOT, Path.home(), tempfile.gettempdir()))


@each_notebook
def test_notebook_when_read_then_uses_only_the_public_api(path):
    source = "\n".join(cell.source for cell in code_cells(nbformat.read(path, as_version=4)))
    imports = re.findall(r"import ragkit\.[\w.]+|from ragkit\.[\w.]+", source)
    public = r"from ragkit\.(?:testing|evaluation\.(?:datasets|plots|reading))"  # of the docs
    assert [each for each in imports if not re.fullmatch(public, each)] == []
    assert re.findall(r"\._\w", source) == []


@pytest.mark.models
@each_notebook
def test_notebook_when_run_in_a_fresh_kernel_without_network_then_shows_the_same(path):
    committed = code_cells(nbformat.read(path, as_version=4))
    fresh = code_cells(run(path))  # a cell that raises ends this
    for before, after in zip(committed, fresh, strict=True):
        if "deterministic" in before.metadata.get("tags", []):
            assert shown(after) == shown(before)
        assert kinds(after) == kinds(before)


@pytest.mark.models
def test_notebook_when_it_reaches_for_the_network_then_is_stopped(tmp_path):
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [
        nbformat.v4.new_code_cell("import socket\nsocket.create_connection(('192.0.2.1', 80))")
    ]
    nbformat.write(notebook, tmp_path / "rude.ipynb")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="PermissionError"):
        run(tmp_path / "rude.ipynb")


if __name__ == "__main__":
    for notebook_path in [Path(name).resolve() for name in sys.argv[1:]] or NOTEBOOKS:
        nbformat.write(run(notebook_path), notebook_path)
