import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real films, which no user's machine has and this repository does not carry."""
    folder = Path(os.environ.get("HILUM_REAL_DATA", REPOSITORY.parent / "shared"))
    if not (folder / "nih" / "films.csv").is_file():
        pytest.skip(f"no real films in {folder}: set HILUM_REAL_DATA to a folder with nih/films.csv")
    return folder
