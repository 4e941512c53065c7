"""`ragkit doctor`: show installed packages and models, and the settings with their origin."""

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
    "gguf": "agent",
    "llguidance": "agent",
}


def doctor(as_json: JsonOption = False) -> None:
    """Show versions, models and settings with their origin. Exit code 1 if there is a problem."""
    from ragkit import models

    home = models.home()
    report: dict[str, Any] = {
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
    report["problems"] = _problems(report)
    if as_json:
        print_json(report)
    else:
        _print(report)
    if report["problems"]:
        raise typer.Exit(1)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _problems(report: dict[str, Any]) -> list[str]:
    problems = []
    if not report["models"]["minilm"]:
        problems.append("the default embedder is not installed; run `ragkit models install minilm`")
    if report["packages"]["faiss-cpu"] and report["packages"]["faiss-gpu"]:
        problems.append("faiss-cpu and faiss-gpu conflict; uninstall one of them")
    writable = report["home"]
    while not os.path.exists(writable):
        writable = os.path.dirname(writable)
    if not os.path.isdir(writable) or not os.access(writable, os.W_OK):
        problems.append(f"{report['home']} is not writable; set RAGKIT_HOME to another folder")
    if importlib.util.find_spec("sqlite3") is None:
        problems.append("this Python has no module sqlite3; install a build that has it")
    return problems


def _print(report: dict[str, Any]) -> None:
    out(f"ragkit {report['ragkit']}, Python {report['python']}, {report['cores']} cores")
    out(f"home {report['home']}{', offline' if report['offline'] else ''}")
    for name, installed in report["packages"].items():
        missing = f"absent   pip install 'ragkit-framework[{_PACKAGES[name]}]'"
        out(f"  {name:22} {installed or missing}")
    for name, installed in report["models"].items():
        missing = f"absent   ragkit models install {name}"
        out(f"  model {name:16} {'installed' if installed else missing}")
    out("settings")
    for name, row in report["settings"].items():
        out(f"  {name:12} {row['value']!s:24} {row['origin']}")
    for problem in report["problems"]:
        out(f"problem: {problem}")
