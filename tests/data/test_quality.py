"""The input quality check: what is corrupted or lateral does not fit, the rest does; on phantom and on real films."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.covariance import EmpiricalCovariance

from hilum.data.film_kind import LATERAL, NOT_CHEST, TURNED
from hilum.data.films import Films
from hilum.data.images import Preprocessing
from hilum.data.quality import (
    BLANK,
    CLIPPED,
    CROPPED,
    FAINT,
    INVERTED,
    OK,
    OVEREXPOSED,
    SIDE,
    UNDEREXPOSED,
    Cloud,
    QualityCheck,
    clouds,
    corrupted,
    cut,
    dealt,
    fit_quality_check,
    look,
    resized,
)
from hilum.data.sources.nih import index_nih
from hilum.phantom.lateral import lateral_views

Grey = np.ndarray


def greys(films: Films, size: int = 64) -> list[Grey]:
    read = Preprocessing(size)
    return [read.read(films.path(row))[0] for row in range(len(films))]


@pytest.fixture(scope="module")
def phantoms(phantom_films: Films) -> list[Grey]:
    return greys(phantom_films)


@pytest.fixture(scope="module")
def check(phantoms: list[Grey]) -> QualityCheck:
    return fit_quality_check(phantoms.__getitem__, 40, laterals=lateral_views(60, seed=0), seed=0)


def proportion(check: QualityCheck, films: list[Grey], *reasons: str) -> float:
    return float(np.mean([check.check(np.ascontiguousarray(film)).reason in reasons for film in films]))


def test_forty_films_are_enough_to_tell_fresh_from_corrupted_ones(check: QualityCheck, phantoms: list[Grey]) -> None:
    fresh, generator = phantoms[40:], np.random.default_rng(1)
    assert proportion(check, fresh, OK) >= 0.9
    assert proportion(check, [1 - film for film in fresh], INVERTED) >= 0.9
    assert proportion(check, [np.rot90(film, 2) for film in fresh], TURNED) >= 0.9
    assert proportion(check, [np.rot90(film) for film in fresh], TURNED, NOT_CHEST) >= 0.9
    assert proportion(check, [cut(film, 0.4, 0.4, generator) for film in fresh], OK) <= 0.2
    assert proportion(check, [dealt(film, 4, generator) for film in fresh], OK) <= 0.1
    assert proportion(check, [clouds(64, 1.0, generator) for _ in fresh], OK) <= 0.1


def test_films_of_two_machines_have_a_cloud_each(phantoms: list[Grey]) -> None:
    bright = [film**0.35 for film in phantoms]
    both = [*phantoms[:32], *bright[:32]]
    named = fit_quality_check(both.__getitem__, 64, seed=0, sources=["a"] * 32 + ["b"] * 32)
    assert [cloud.reason == OK for cloud in named.clouds[:3]] == [True, True, False]
    for fresh in (phantoms[40:], bright[40:]):
        assert proportion(named, fresh, OK) >= 0.85
        assert proportion(named, [1 - film for film in fresh], OK) <= 0.1
    assert proportion(named, [film / 8 for film in phantoms[40:]], OK) <= 0.1
    assert QualityCheck.from_dict(json.loads(json.dumps(named.to_dict()))) == named
    few = fit_quality_check(both[20:].__getitem__, 20, seed=0, sources=["a"] * 12 + ["b"] * 8)
    assert [cloud.reason == OK for cloud in few.clouds[:2]] == [True, False]


def test_a_verdict_says_what_and_why_in_words(check: QualityCheck, phantoms: list[Grey]) -> None:
    assert str(check.check(phantoms[0])) == OK
    blank = check.check(np.full((64, 64), 0.4, dtype=np.float32))
    assert (blank.reason, str(blank)) == (BLANK, "blank: it has next to no contrast")
    assert "dark and bright" in check.check(1 - phantoms[0]).why


def test_it_is_kept_as_plain_json_to_the_last_digit(check: QualityCheck, phantoms: list[Grey]) -> None:
    again = QualityCheck.from_dict(json.loads(json.dumps(check.to_dict(), allow_nan=False)))
    assert again == check
    assert [again.check(film) for film in phantoms] == [check.check(film) for film in phantoms]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("centre", "1 2 3"),
        ("centre", "nan " * SIDE**2),
        ("axes", ["1 2", "1"]),
        ("least_odds", float("inf")),
        ("least_odds", {"shape": 0.0, "exposure": float("nan"), "lateral": 0.0}),
        ("farthest", float("nan")),
        ("clouds", []),
    ],
)
def test_a_damaged_check_is_refused(check: QualityCheck, field: str, value: object) -> None:
    with pytest.raises((ValueError, IndexError)):
        QualityCheck.from_dict(check.to_dict() | {field: value})


def test_the_same_seed_gives_the_same_check(check: QualityCheck, phantoms: list[Grey]) -> None:
    assert fit_quality_check(phantoms.__getitem__, 40, laterals=lateral_views(60, seed=0), seed=0) == check
    with pytest.raises(ValueError, match="films must be at least 16, got 15"):
        fit_quality_check(phantoms.__getitem__, 15, seed=0)


def test_films_that_are_all_the_same_still_make_a_check(phantoms: list[Grey]) -> None:
    same = fit_quality_check(lambda _: phantoms[0], 16, seed=0)
    assert same.check(phantoms[0]).reason == OK
    assert same.check(1 - phantoms[0]).reason == INVERTED
    assert LATERAL not in {cloud.reason for cloud in same.clouds}  # none were given


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


def test_corruptions_by_hand() -> None:
    film = np.arange(64, dtype=np.float32).reshape(8, 8) / 64
    ways = list(corrupted(film, np.random.default_rng(0)))
    exposed = [*[UNDEREXPOSED] * 4, *[OVEREXPOSED] * 3, CLIPPED, FAINT]
    assert [way for way, _ in ways] == [INVERTED, *[TURNED] * 3, *[CROPPED] * 6, *[NOT_CHEST] * 3, *exposed]
    assert all(version.shape == (8, 8) for _, version in ways)
    assert np.array_equal(ways[2][1], film[::-1, ::-1])
    tiles = dealt(film, 2, np.random.default_rng(0))
    assert sorted(tiles.ravel()) == sorted(film.ravel())
    for row in (slice(0, 4), slice(4, 8)):
        for column in (slice(0, 4), slice(4, 8)):
            assert not np.array_equal(tiles[row, column], film[row, column])
    noise = clouds(32, 2.0, np.random.default_rng(0))
    assert (noise.min(), noise.max()) == (0, 1)


def test_exposure_is_named(check: QualityCheck, phantoms: list[Grey]) -> None:
    fresh = phantoms[40:]
    for times in (1 / 3, 1 / 4, 1 / 8, 1 / 16, 1 / 64):
        assert proportion(check, [film * np.float32(times) for film in fresh], UNDEREXPOSED) >= 0.95
    assert proportion(check, [np.clip(3 * film, 0, 1) for film in fresh], OVEREXPOSED, CLIPPED) >= 0.95
    wide = [np.clip(film.mean() + 4 * (film - film.mean()), 0, 1) for film in fresh]
    assert proportion(check, wide, CLIPPED, UNDEREXPOSED, OVEREXPOSED) >= 0.95
    assert proportion(check, [film.mean() + (film - film.mean()) / 5 for film in fresh], FAINT) >= 0.9
    assert "all bits" in check.check(phantoms[0] / np.float32(16)).why


def test_lateral_views_are_named_whichever_way_they_face(check: QualityCheck, phantoms: list[Grey]) -> None:
    views = list(lateral_views(60, seed=1))
    assert proportion(check, views, OK) == 0
    assert proportion(check, [view[:, ::-1] for view in views], LATERAL) >= 0.8


def test_a_check_of_before_exposure_is_still_read(check: QualityCheck, phantoms: list[Grey]) -> None:
    fields = check.to_dict()
    kept = len(check.axes) + 1
    for cloud in fields["clouds"]:
        cloud["mean"] = " ".join(cloud["mean"].split()[:kept])
        cloud["whitening"] = [" ".join(row.split()[:kept]) for row in cloud["whitening"][:kept]]
    del fields["exposure"]
    fields["least_odds"] = fields["least_odds"]["shape"]
    old = QualityCheck.from_dict(fields)
    assert not old.exposure
    assert old.check(1 - phantoms[0]).reason == INVERTED
    assert set(old.least_odds.values()) == {check.least_odds["shape"]}
    assert QualityCheck.from_dict(old.to_dict()) == old


@pytest.mark.slow
@pytest.mark.real
def test_on_real_films_that_it_has_not_seen(real_data: Path, tmp_path: Path) -> None:
    films = index_nih(real_data / "nih")
    patients = films.table["patient"].to_numpy()
    read = Preprocessing(64)
    rows = np.arange(0, len(films), 5)
    seen = [row for row in rows if hash_of(patients[row]) < 8]
    fresh = [read.read(films.path(int(row)))[0] for row in rows if hash_of(patients[row]) >= 8]
    check = fit_quality_check(
        lambda row: read.read(films.path(int(seen[row])))[0], len(seen), laterals=lateral_views(seed=0), seed=0
    )
    assert proportion(check, fresh, OK) >= 0.98
    assert proportion(check, [1 - film for film in fresh], OK) <= 0.05
    for quarters in (1, 2, 3):
        assert proportion(check, [np.rot90(film, quarters) for film in fresh], OK) <= 0.05
    across, down = np.meshgrid(np.linspace(0, 1, 64, dtype=np.float32), np.linspace(0, 1, 64, dtype=np.float32))
    pictures = [across, down, across * down, np.hypot(across - 0.5, down - 0.5), (20 * down).round() % 2]
    assert proportion(check, pictures, OK) == 0

    for times in (1 / 3, 1 / 4, 1 / 16):
        assert proportion(check, [film * np.float32(times) for film in fresh], OK) <= 0.05
    views = pd.read_csv(real_data / "views" / "films.csv")
    lateral = views["film"][views["view_seen"].isin(["L", "LATERAL"]) | (views["view"] == "LATERAL")]
    assert len(lateral) >= 20
    for name in lateral:
        with Image.open(real_data / "views" / "films" / name) as picture:
            grey = read.apply(np.asarray(picture.convert("RGBA").convert("L")))[0]
        assert check.check(grey).reason != OK
        assert check.check(np.ascontiguousarray(grey[:, ::-1])).reason != OK

    for name in ("RG2_hip_J2KI", "RG3_leg_J2KI"):
        path = tmp_path / f"{name}.png"
        Image.fromarray(jpeg2000(real_data / "dicom" / "not_chest" / f"{name}.dcm")).save(path)
        assert check.check(read.read(path)[0]).reason != OK


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


def test_pngs_go_the_same_way(check: QualityCheck, phantoms: list[Grey], tmp_path: Path) -> None:
    path = tmp_path / "inverted.png"
    Image.fromarray(np.round(255 * (1 - resized(phantoms[5], 300, 200))).astype(np.uint8)).save(path)
    assert check.check(Preprocessing(64).read(path)[0]).reason == INVERTED
