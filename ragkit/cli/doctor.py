"""`ragkit doctor`: what is installed, what is set, and where from."""

from __future__ import annotations

import importlib.util
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import typer

from ragkit import __version__
from ragkit.cli import settings
from ragkit.cli.common import JsonOption, out, print_json

_PACKAGES = {
    "onnxruntime": "core",
    "sqlalchemy": "core",
    "tokenizers": "core",
    "faiss-cpu": "cpu",
    "faiss-gpu": "gpu",
    "torch": "local",
    "transformers": "local",
    "sentence-transformers": "local",
    "markitdown": "office",
}


def doctor(as_json: JsonOption = False) -> None:
    """Print versions, models, and each setting with its origin; exit code 1 for a problem."""
    from ragkit import models

    home = models.home()
    found: dict[str, Any] = {
        "ragkit": __version__,
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "home": str(home),
        "offline": models.offline(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "models": {wheel.name: models.is_installed(wheel) for wheel in models.WHEELS.values()},
        "settings": {
            name: dict(zip(("value", "origin"), settings.origin(name), strict=True))
            for name in settings.SETTINGS
        },
    }
    found["problems"] = _problems(found)
    if as_json:
        print_json(found)
    else:
        _print(found)
    if found["problems"]:
        raise typer.Exit(1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _problems(found: dict[str, Any]) -> list[str]:
    problems = []
    if not found["models"]["minilm"]:
        problems.append("the default embedder is absent: ragkit models install minilm")
    if found["packages"]["faiss-cpu"] and found["packages"]["faiss-gpu"]:
        problems.append("faiss-cpu and faiss-gpu both own the module faiss: uninstall one")
    writable = found["home"]
    while not os.path.exists(writable):
        writable = os.path.dirname(writable)
    if not os.path.isdir(writable) or not os.access(writable, os.W_OK):
        problems.append(f"{found['home']} cannot be written: set RAGKIT_HOME")
    if importlib.util.find_spec("sqlite3") is None:
        problems.append("this Python has no sqlite3")
    return problems


def _print(found: dict[str, Any]) -> None:
    out(f"ragkit {found['ragkit']}, Python {found['python']}, {found['cores']} cores")
    out(f"home {found['home']}{', offline' if found['offline'] else ''}")
    for name, installed in found["packages"].items():
        missing = f"absent   pip install 'ragkit-framework[{_PACKAGES[name]}]'"
        out(f"  {name:22} {installed or missing}")
    for name, installed in found["models"].items():
        missing = f"absent   ragkit models install {name}"
        out(f"  model {name:16} {'installed' if installed else missing}")
    out("settings")
    for name, row in found["settings"].items():
        out(f"  {name:12} {row['value']!s:24} {row['origin']}")
    for problem in found["problems"]:
        out(f"problem: {problem}")
