"""What the package as a whole promises: a light import, named exports, no pickle, docstrings."""

import ast
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import ragkit

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "ragkit").rglob("*.py"))


def test_import_when_ragkit_is_loaded_brings_nothing_heavy_and_opens_no_socket():
    program = """
import socket, sys
def refuse(*a, **k): raise AssertionError("a socket was opened at import")
socket.socket.connect = refuse
import ragkit, json
print(json.dumps(sorted(sys.modules)))
"""
    run = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    loaded = {name.split(".")[0] for name in json.loads(run.stdout)}
    heavy = {"torch", "faiss", "transformers", "llama_index", "langchain", "numpy", "sqlalchemy"}
    heavy |= {
        "onnxruntime",
        "openai",
        "pydantic",
        "typer",
        "rich",
        "pypdfium2",
        "tokenizers",
        "httpx",
    }
    assert not heavy & loaded


def test_exports_when_compared_with_reality_are_complete_and_load():
    assert sorted(ragkit.__all__) == sorted(ragkit._MODULES)
    for name in ragkit.__all__:
        assert inspect.getdoc(getattr(ragkit, name)), name
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = ragkit.no_such_name


def test_sources_when_scanned_use_no_pickle_and_no_shell():
    for path in SOURCES:
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                assert not {"pickle", "dill", "shelve", "marshal", "joblib"} & set(names), path
            if isinstance(node, ast.keyword) and node.arg in ("shell", "allow_pickle"):
                assert isinstance(node.value, ast.Constant), path
                assert node.value.value is False, (path, node.lineno)
        assert "torch.load(" not in text, path


def test_public_names_when_listed_have_a_docstring_in_every_module():
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        for node in tree.body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                assert ast.get_docstring(node), f"{path}:{node.name}"
