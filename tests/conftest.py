"""What all tests share: a home of their own, so that no trace of a test stays with the user."""

import pytest

from ragkit import models


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
