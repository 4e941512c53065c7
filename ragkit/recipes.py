"""TOML recipes: what an index is built from, as data.

A recipe names code and contains none. It is looked for at the given path, then in `indexes/` of the
working folder, then in the installed package, then in the checkout.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ragkit.collection.description import Settings
from ragkit.errors import RagkitError
from ragkit.types import RetrieverName

Kind = Literal["indexes", "agents"]
_FILE = "recipe.toml"


class IndexRecipe(BaseModel):
    """`indexes/<name>/recipe.toml`.

    Attributes:
        name: What it is called.
        about: One sentence.
        corpus: Files and folders; relative to the recipe's folder.
        retriever: What searches use unless told otherwise.
        settings: See `ragkit.collection.description.Settings`.
        metadata: Fields for every document.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    about: str
    corpus: list[str] = Field(min_length=1)
    retriever: RetrieverName = "hybrid"
    settings: dict[str, str | int | float] = {}
    metadata: dict[str, Any] = {}
    folder: Path = Path()

    @property
    def paths(self) -> list[Path]:
        """The corpus, as paths that can be opened from anywhere."""
        return [(self.folder / entry).resolve() for entry in self.corpus]

    @property
    def adapter(self) -> Path | None:
        """The adapter in the recipe's folder, for the retrievers title and ngram."""
        found = self.folder / "adapter"
        return found if (found / "ragkit.json").is_file() else None

    @property
    def collection_settings(self) -> Settings:
        """The settings, checked."""
        try:
            return Settings(**self.settings)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            known = ", ".join(Settings.__dataclass_fields__)
            raise RagkitError(
                f"recipe {self.name!r}: unknown setting ({error}); known are {known}"
            ) from error


def load_recipe(name: str | Path) -> IndexRecipe:
    """The recipe of that name or path.

    Raises:
        RagkitError: It is nowhere, or says something that is not understood.
    """
    folder = find(name)
    file = folder / _FILE
    try:
        return IndexRecipe(**tomllib.loads(file.read_text("utf-8")), folder=folder)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise RagkitError(f"the recipe {str(file)!r} cannot be used: {error}") from error


def find(name: str | Path) -> Path:
    """The folder of a recipe."""
    given = Path(name)
    if given.name == _FILE and given.is_file():
        return given.parent
    looked = [given, *(root / str(name) for root in roots("indexes"))]
    for folder in looked:
        if (folder / _FILE).is_file():
            return folder
    known = ", ".join(names()) or "none"
    raise RagkitError(
        f"there is no recipe {str(name)!r} in indexes/; known here: {known}. "
        f"Give one of them, or the path of a folder with a {_FILE}."
    )


def names() -> list[str]:
    """The recipes that can be found by name."""
    return sorted(
        {
            folder.name
            for root in roots("indexes")
            if root.is_dir()
            for folder in root.iterdir()
            if (folder / _FILE).is_file()
        }
    )


def roots(kind: Kind) -> Iterator[Path]:
    """Where shipped definitions are looked for: the working folder, the package, the checkout."""
    yield Path.cwd() / kind
    package = Path(str(resources.files("ragkit")))
    yield package / "_shipped" / kind
    yield package.parent / kind  # a checkout, installed in editable mode
