import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hilum.data.audit import audit
from hilum.data.films import Films
from hilum.data.sources.nih import index_nih

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"


@pytest.fixture
def films(tmp_path: Path) -> Films:
    """Ten films of five patients: one a copy in colour of another, one broken, one gone after indexing, one missing."""
    rows = [
        f"{row // 2:08d}_{row % 2:03d}.png,Mass,{row % 2},{row // 2},{412 if row == 8 else 50},F,PA"
        for row in range(11)
    ]
    (tmp_path / "Data_Entry_2017.csv").write_text("\n".join([HEADER, *rows]))
    images = tmp_path / "images"
    images.mkdir()
    for row in range(10):
        pixels = np.random.default_rng(row).integers(0, 256, (32, 32), np.uint8)
        Image.fromarray(pixels).save(images / f"{row // 2:08d}_{row % 2:03d}.png")
    Image.open(images / "00000000_000.png").convert("RGB").save(images / "00000003_000.png")
    (images / "00000001_000.png").write_bytes(b"no image")
    Image.new("L", (32, 32)).save(images / "unlisted.png")
    (tmp_path / "more").mkdir()
    Image.new("L", (32, 32)).save(tmp_path / "more" / "00000000_000.png")
    indexed = index_nih(tmp_path)
    (images / "00000002_000.png").unlink()
    return indexed


def test_everything_is_counted_and_named(films: Films, capsys: pytest.CaptureFixture[str]) -> None:
    found = audit(films)
    assert (found.films, found.patients) == (10, 5)
    assert found.missing == ("00000005_000.png", "00000002_000.png")
    assert found.unreadable is not None
    assert list(found.unreadable) == ["00000001_000.png"]
    assert "PNG, JPEG or DICOM" in found.unreadable["00000001_000.png"]
    assert found.duplicates == (("00000000_000.png", "00000003_000.png"),)
    assert found.same_name == ("more/00000000_000.png",)
    assert found.unlisted == ("images/unlisted.png",)
    assert found.age == ("00000004_000.png",)
    assert found.official == {}
    assert found.protocol is None
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "reading films" in printed.err


def test_to_dict_is_strict_json(films: Films) -> None:
    split = films.split("image", fractions=(0.5, 0.0, 0.5))
    facts = json.loads(json.dumps(audit(split).to_dict(), allow_nan=False))
    assert facts["missing"] == {"count": 2, "names": ["00000005_000.png", "00000002_000.png"]}
    assert facts["duplicates"] == {"count": 1, "names": [["00000000_000.png", "00000003_000.png"]]}
    assert facts["unreadable"]["count"] == 1
    assert facts["protocol"] == "image"
    assert facts["shared_patients"]["train/test"] > 0
    assert [row["split"] for row in facts["summary"]] == ["train", "test"]


def test_without_reading_nothing_is_claimed_about_content(films: Films) -> None:
    found = audit(films, read_files=False)
    assert found.missing == ("00000005_000.png", "00000002_000.png")
    assert found.unreadable is None
    assert found.duplicates is None
    assert found.to_dict()["duplicates"] is None


@pytest.mark.slow
@pytest.mark.real
def test_real_originals_are_all_readable(real_data: Path) -> None:
    found = audit(index_nih(real_data / "nih" / "originals"))
    assert (found.films, found.unreadable, found.duplicates) == (90, {}, ())
