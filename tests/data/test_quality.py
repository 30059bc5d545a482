"""The gate on the way in: what is corrupted does not fit, what is not does; on phantom films, and on real ones."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.covariance import EmpiricalCovariance

from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.quality import (
    BLANK,
    CROPPED,
    INVERTED,
    NOT_CHEST,
    OK,
    SIDE,
    TURNED,
    Cloud,
    QualityCheck,
    clouds,
    cut,
    dealt,
    fit_quality_check,
    look,
    resized,
    corrupted,
)
from hilum.data.sources.nih import index_nih

Grey = np.ndarray


def greys(films: Films, size: int = 64) -> list[Grey]:
    read = Preprocessing(size)
    return [read.read(films.path(row))[0] for row in range(len(films))]


@pytest.fixture(scope="module")
def phantoms(phantom_films: Films) -> list[Grey]:
    return greys(phantom_films)


@pytest.fixture(scope="module")
def gate(phantoms: list[Grey]) -> QualityCheck:
    return fit_quality_check(phantoms.__getitem__, 40, seed=0)


def proportion(gate: QualityCheck, films: list[Grey], *reasons: str) -> float:
    return float(np.mean([gate.check(np.ascontiguousarray(film)).reason in reasons for film in films]))


def test_forty_films_are_enough_to_tell_fresh_from_spoilt_ones(gate: QualityCheck, phantoms: list[Grey]) -> None:
    fresh, generator = phantoms[40:], np.random.default_rng(1)
    assert proportion(gate, fresh, OK) >= 0.9
    assert proportion(gate, [1 - film for film in fresh], INVERTED) >= 0.9
    assert proportion(gate, [np.rot90(film, 2) for film in fresh], TURNED) >= 0.9
    assert proportion(gate, [np.rot90(film) for film in fresh], TURNED, NOT_CHEST) >= 0.9
    assert proportion(gate, [cut(film, 0.4, 0.4, generator) for film in fresh], OK) <= 0.2
    assert proportion(gate, [dealt(film, 4, generator) for film in fresh], OK) <= 0.1
    assert proportion(gate, [clouds(64, 1.0, generator) for _ in fresh], OK) <= 0.1


def test_a_verdict_says_what_and_why_in_words(gate: QualityCheck, phantoms: list[Grey]) -> None:
    assert str(gate.check(phantoms[0])) == OK
    blank = gate.check(np.full((64, 64), 0.4, dtype=np.float32))
    assert (blank.reason, str(blank)) == (BLANK, "blank: it has next to no contrast")
    assert "dark and bright" in gate.check(1 - phantoms[0]).why


def test_it_is_kept_as_plain_json_to_the_last_digit(gate: QualityCheck, phantoms: list[Grey]) -> None:
    again = QualityCheck.from_dict(json.loads(json.dumps(gate.to_dict(), allow_nan=False)))
    assert again == gate
    assert [again.check(film) for film in phantoms] == [gate.check(film) for film in phantoms]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("centre", "1 2 3"),
        ("centre", "nan " * SIDE**2),
        ("axes", ["1 2", "1"]),
        ("least_odds", float("inf")),
        ("clouds", []),
    ],
)
def test_a_damaged_gate_is_refused(gate: QualityCheck, field: str, value: object) -> None:
    with pytest.raises((ValueError, IndexError)):
        QualityCheck.from_dict(gate.to_dict() | {field: value})


def test_the_same_seed_gives_the_same_gate(gate: QualityCheck, phantoms: list[Grey]) -> None:
    assert fit_quality_check(phantoms.__getitem__, 40, seed=0) == gate
    with pytest.raises(ValueError, match="films must be at least 16, got 15"):
        fit_quality_check(phantoms.__getitem__, 15, seed=0)


def test_films_that_are_all_the_same_still_make_a_gate(phantoms: list[Grey]) -> None:
    same = fit_quality_check(lambda _: phantoms[0], 16, seed=0)
    assert same.check(phantoms[0]).reason == OK
    assert same.check(1 - phantoms[0]).reason == INVERTED


def test_a_cloud_s_distance_is_mahalanobis_per_trait() -> None:
    traits = np.random.default_rng(0).normal(size=(200, 5)) @ np.random.default_rng(1).normal(size=(5, 5))
    oracle = EmpiricalCovariance().fit(traits)
    cloud = Cloud(OK, traits.mean(axis=0), np.linalg.cholesky(np.linalg.inv(oracle.covariance_)))
    np.testing.assert_allclose(cloud.distance(traits), oracle.mahalanobis(traits) / 5)
    assert cloud.distance(traits).mean() == pytest.approx(1)


def test_brightness_contrast_and_size_do_not_change_the_look(phantoms: list[Grey]) -> None:
    film = phantoms[3]
    np.testing.assert_allclose(look(0.5 * film + 0.2), look(film), atol=1e-4)
    np.testing.assert_allclose(look(film.repeat(2, 0).repeat(2, 1)), look(film), atol=1e-4)


def test_spoiling_by_hand() -> None:
    film = np.arange(64, dtype=np.float32).reshape(8, 8) / 64
    ways = list(corrupted(film, np.random.default_rng(0)))
    assert [way for way, _ in ways] == [INVERTED, *[TURNED] * 3, *[CROPPED] * 6, *[NOT_CHEST] * 3]
    assert all(version.shape == (8, 8) for _, version in ways)
    assert np.array_equal(ways[2][1], film[::-1, ::-1])
    tiles = dealt(film, 2, np.random.default_rng(0))
    assert sorted(tiles.ravel()) == sorted(film.ravel())
    for row in (slice(0, 4), slice(4, 8)):
        for column in (slice(0, 4), slice(4, 8)):
            assert not np.array_equal(tiles[row, column], film[row, column])
    noise = clouds(32, 2.0, np.random.default_rng(0))
    assert (noise.min(), noise.max()) == (0, 1)


@pytest.mark.slow
@pytest.mark.real
def test_on_real_films_that_it_has_not_seen(real_data: Path, tmp_path: Path) -> None:
    films = index_nih(real_data / "nih")
    patients = films.table["patient"].to_numpy()
    read = Preprocessing(64)
    rows = np.arange(0, len(films), 5)
    seen = [row for row in rows if hash_of(patients[row]) < 8]
    fresh = [read.read(films.path(int(row)))[0] for row in rows if hash_of(patients[row]) >= 8]
    gate = fit_quality_check(lambda row: read.read(films.path(int(seen[row])))[0], len(seen), seed=0)
    assert proportion(gate, fresh, OK) >= 0.98
    assert proportion(gate, [1 - film for film in fresh], OK) <= 0.05
    for quarters in (1, 2, 3):
        assert proportion(gate, [np.rot90(film, quarters) for film in fresh], OK) <= 0.05
    across, down = np.meshgrid(np.linspace(0, 1, 64, dtype=np.float32), np.linspace(0, 1, 64, dtype=np.float32))
    pictures = [across, down, across * down, np.hypot(across - 0.5, down - 0.5), (20 * down).round() % 2]
    assert proportion(gate, pictures, OK) == 0

    for name in ("RG2_hip_J2KI", "RG3_leg_J2KI"):
        path = tmp_path / f"{name}.png"
        Image.fromarray(jpeg2000(real_data / "dicom" / "not_chest" / f"{name}.dcm")).save(path)
        assert gate.check(read.read(path)[0]).reason != OK


def jpeg2000(path: Path) -> np.ndarray:
    """The pixels of a DICOM file in JPEG 2000: the fragments after the table of offsets, joined; bone bright."""
    content = path.read_bytes()
    start, fragments = content.index(b"\xe0\x7f\x10\x00") + 12, []
    while content[start : start + 4] == b"\xfe\xff\x00\xe0":
        end = start + 8 + int.from_bytes(content[start + 4 : start + 8], "little")
        fragments.append(content[start + 8 : end])
        start = end
    with Image.open(io.BytesIO(b"".join(fragments[1:]))) as film:
        pixels = np.asarray(film)
    return pixels.max() - pixels if b"MONOCHROME1" in content else pixels


def hash_of(patient: str) -> int:
    return int(patient) % 10


def test_pngs_go_the_same_way(gate: QualityCheck, phantoms: list[Grey], tmp_path: Path) -> None:
    path = tmp_path / "inverted.png"
    Image.fromarray(np.round(255 * (1 - resized(phantoms[5], 300, 200))).astype(np.uint8)).save(path)
    assert gate.check(Preprocessing(64).read(path)[0]).reason == INVERTED
