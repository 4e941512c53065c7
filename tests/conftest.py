"""What all tests share: a home of their own, one thread a process, few examples a property."""

import logging
import os
import sys
from typing import NamedTuple

import properties
import pytest

from ragkit import models

# Two workers share two cores. Nothing has imported numpy or torch yet, which read these once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
properties.load()


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory):
    """RAGKIT_HOME in a temporary folder; converted models stay where they are."""
    converted = models.home() / "models"
    converted.mkdir(parents=True, exist_ok=True)
    home = tmp_path_factory.mktemp("home")
    (home / "models").symlink_to(converted)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAGKIT_HOME", str(home))
        yield home


class Done(NamedTuple):
    """What a command ended with."""

    code: int
    out: str
    err: str


@pytest.fixture
def ragkit(monkeypatch, capsys, tmp_path):
    """Runs the command in this process: ragkit("search", …, stdin=…) -> (code, out, err)."""
    import io

    from ragkit.cli import main

    for name in (
        "RAGKIT_COLLECTION",
        "RAGKIT_RETRIEVER",
        "RAGKIT_READER",
        "RAGKIT_LLM",
        "RAGKIT_JUDGE",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    logger = logging.getLogger("ragkit")
    handlers, level = logger.handlers, logger.level

    def call(*arguments, stdin=None):
        monkeypatch.setattr(sys, "argv", ["ragkit", *map(str, arguments)])
        if stdin is not None:
            data = stdin if isinstance(stdin, bytes) else stdin.encode()
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main.run()
        return Done(end.value.code or 0, *capsys.readouterr())

    yield call
    logger.handlers = handlers
    logger.setLevel(level)


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Keep the tests of a file on one worker, where its fixtures are; those of faults have none.

    All files with tiny models share a worker in `make test`: much of torch is imported late.
    A doctest with SmolLM2 is of the tier `models`.
    """
    for item in items:
        if "smollm2" in getattr(getattr(item, "dtest", None), "docstring", ""):
            item.add_marker("models")
        if item.get_closest_marker("faults"):
            continue
        names = vars(item.module) if isinstance(item, pytest.Function) else {}  # a doctest has none
        is_tiny = not {"torch", "tiny_llama", "tiny_model"}.isdisjoint(names)
        together = is_tiny and not item.get_closest_marker("models")
        item.add_marker(pytest.mark.xdist_group("torch" if together else item.path.stem))
