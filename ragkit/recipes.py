"""TOML recipes: declarative definitions of collections.

Recipes refer to code but contain none. A recipe is searched at the given path, then in `indexes/`
of the working directory, of the installed package, and of the source checkout.
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
    """Content of `indexes/<name>/recipe.toml`.

    Attributes:
        name: Name of the recipe.
        about: Description, one sentence.
        corpus: Files and folders, relative to the recipe's folder.
        retriever: Default retriever of searches.
        settings: See `ragkit.collection.description.Settings`.
        metadata: Fields added to every document.
        folder: Folder of the recipe.
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
        """Absolute paths of the corpus."""
        return [(self.folder / entry).resolve() for entry in self.corpus]

    @property
    def adapter(self) -> Path | None:
        """Adapter in the recipe's folder, for the retrievers title and ngram, or None."""
        adapter = self.folder / "adapter"
        return adapter if (adapter / "ragkit.json").is_file() else None

    @property
    def collection_settings(self) -> Settings:
        """Validated settings of the collection."""
        try:
            return Settings(**self.settings)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            known = ", ".join(Settings.__dataclass_fields__)
            raise RagkitError(
                f"recipe {self.name!r} has an invalid setting ({error}); known settings: {known}"
            ) from error


def load_recipe(name: str | Path) -> IndexRecipe:
    """Load a recipe by name or path.

    Raises:
        RagkitError: The recipe does not exist or is invalid.
    """
    folder = find_recipe(name)
    file = folder / _FILE
    try:
        return IndexRecipe(**tomllib.loads(file.read_text("utf-8")), folder=folder)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError, TypeError) as error:
        raise RagkitError(f"the recipe {str(file)!r} is invalid: {error}") from error


def find_recipe(name: str | Path) -> Path:
    """Return the folder of a recipe, by name or path.

    Raises:
        RagkitError: The recipe does not exist.
    """
    path = Path(name)
    if path.name == _FILE and path.is_file():
        return path.parent
    for folder in [path, *(root / str(name) for root in search_folders("indexes"))]:
        if (folder / _FILE).is_file():
            return folder
    known = ", ".join(recipe_names()) or "none"
    raise RagkitError(
        f"there is no recipe {str(name)!r} in indexes/; known recipes: {known}. "
        f"Use one of them, or the path of a folder with a {_FILE}."
    )


def recipe_names() -> list[str]:
    """Return the names of all recipes that can be loaded by name."""
    return sorted(
        {
            folder.name
            for root in search_folders("indexes")
            if root.is_dir()
            for folder in root.iterdir()
            if (folder / _FILE).is_file()
        }
    )


def search_folders(kind: Kind) -> Iterator[Path]:
    """Yield the folders to search for definitions: working directory, package, checkout."""
    yield Path.cwd() / kind
    package = Path(str(resources.files("ragkit")))
    yield package / "_shipped" / kind
    yield package.parent / kind  # a checkout, installed in editable mode
