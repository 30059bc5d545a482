from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import Bool, Float64
from PIL import Image

from hilum.findings import CHESTXRAY14
from hilum.phantom.anatomy import (
    STATIONS,
    Anatomy,
    Pose,
    Side,
    Sign,
    coarse,
    empty_chest,
    grain,
    lung_borders,
    silhouette,
    texture,
    with_signs,
)
from hilum.phantom.dataset import BILATERAL, contact_sheet, plan_films
from hilum.phantom.film import FilmPlan, render
from hilum.phantom.findings import DRAWINGS, Box

SIZE = 160
HEALTHY = [film.plan for film in plan_films(120, 5) if not film.findings and not film.plan.exposure.frame]


def with_finding(finding: str, *, severity: float = 0.7, side: Side = "right", base: int = 0) -> FilmPlan:
    side = "both" if finding in BILATERAL else side
    return replace(HEALTHY[base], signs=(Sign(finding, side, severity, 40 + base),))


def difference(plan: FilmPlan) -> tuple[Float64[np.ndarray, "height width"], list[Box]]:
    with_it, boxes = render(plan, SIZE)
    without, none = render(replace(plan, signs=()), SIZE)
    assert none == []
    return np.abs(with_it.astype(np.float64) - without), boxes


def inside(boxes: list[Box]) -> Bool[np.ndarray, "height width"]:
    mask = np.zeros((SIZE, SIZE), dtype=np.bool_)
    for box in boxes:
        left, top = round(box.x * SIZE), round(box.y * SIZE)
        mask[top : top + round(box.height * SIZE), left : left + round(box.width * SIZE)] = True
    return mask


def cardiothoracic_ratio(anatomy: Anatomy) -> float:
    """Measured as on a film: the widest heart over the widest thorax."""
    right, left = silhouette(anatomy)
    stations = STATIONS
    below_arch = (stations > anatomy.apex + 10) & (stations < max(anatomy.angle_right, anatomy.angle_left))
    widest = [lung_borders(anatomy, side)[1][below_arch].max() for side in (False, True)]
    return float((left[below_arch].max() - right[below_arch].min()) / sum(widest))


def test_all_fourteen_findings_can_be_drawn() -> None:
    assert set(DRAWINGS) == set(CHESTXRAY14)


@pytest.mark.parametrize("base", range(3))
@pytest.mark.parametrize("finding", CHESTXRAY14)
def test_a_finding_changes_the_film_inside_its_box(finding: str, base: int) -> None:
    side: Side = "left" if base == 1 else "right"
    change, boxes = difference(with_finding(finding, side=side, base=base))
    assert {box.finding for box in boxes} == {finding}
    mask = inside(boxes)
    assert change.max() > 20
    assert change[mask].mean() > 3
    assert change[mask].mean() > 2.5 * change[~mask].mean()


@pytest.mark.parametrize("finding", CHESTXRAY14)
def test_an_obvious_finding_changes_more_than_a_subtle_one(finding: str) -> None:
    subtle, _ = difference(with_finding(finding, severity=0.15))
    obvious, _ = difference(with_finding(finding, severity=1.0))
    assert 0 < subtle.sum() < obvious.sum()


@pytest.mark.parametrize("finding", ["Effusion", "Pneumothorax", "Mass", "Consolidation", "Atelectasis"])
@pytest.mark.parametrize(("side", "from_left"), [("right", True), ("left", False)])
def test_the_patients_right_is_on_the_films_left(finding: str, side: Side, from_left: bool) -> None:
    _, boxes = render(with_finding(finding, side=side), SIZE)
    assert all((box.x + box.width / 2 < 0.5) == from_left for box in boxes)


@pytest.mark.parametrize(("finding", "fits"), [("Mass", lambda cm: cm > 3), ("Nodule", lambda cm: cm < 3)])
@pytest.mark.parametrize("severity", [0.0, 0.5, 1.0])
def test_mass_and_nodule_differ_by_three_centimetres(finding: str, fits, severity: float) -> None:  # type: ignore[no-untyped-def]
    plan = with_finding(finding, severity=severity)
    _, boxes = render(plan, 320)
    assert all(fits(max(box.width, box.height) * plan.pose.width) for box in boxes)


def test_the_heart_is_wider_than_half_the_thorax_only_in_cardiomegaly() -> None:
    for film in plan_films(250, 2):
        plan = film.plan
        ratio = cardiothoracic_ratio(with_signs(plan.anatomy, plan.signs))
        assert (ratio > 0.5) == ("Cardiomegaly" in film.findings), film.name


def test_emphysema_flattens_and_lowers_the_diaphragm_and_fibrosis_raises_it() -> None:
    anatomy = HEALTHY[0].anatomy
    emphysema = with_signs(anatomy, [Sign("Emphysema", "both", 0.7, 0)])
    fibrosis = with_signs(anatomy, [Sign("Fibrosis", "both", 0.7, 0)])
    assert emphysema.dome_drop < 0.6 * anatomy.dome_drop
    assert emphysema.dome_right > anatomy.dome_right > fibrosis.dome_right
    assert emphysema.heart_ratio < anatomy.heart_ratio


def test_a_pneumothorax_is_darker_and_an_effusion_brighter_than_lung() -> None:
    for finding, brighter in (("Pneumothorax", False), ("Effusion", True)):
        plan = with_finding(finding, severity=0.55)
        with_it, boxes = render(plan, SIZE)
        without, _ = render(replace(plan, signs=()), SIZE)
        rise = with_it.astype(np.float64)[inside(boxes)] - without[inside(boxes)]
        darkest, brightest = np.percentile(rise, [10, 90])
        assert darkest > -20 if brighter else darkest < -25
        assert (brightest > 60) == brighter


@pytest.mark.parametrize("size", [64, 101, 320])
def test_films_have_the_size_that_was_asked_for_and_a_full_range_of_grey(size: int) -> None:
    film, _ = render(HEALTHY[0], size)
    assert film.shape == (size, size)
    assert np.percentile(film, 2) < 30 < 80 < np.percentile(film, 50) < 180 < np.percentile(film, 98)


def test_lung_is_dark_and_mediastinum_bright() -> None:
    for plan in HEALTHY[:6]:
        chest = empty_chest(plan.anatomy, plan.pose, SIZE)
        film, _ = render(plan, SIZE)
        lung = film[chest.air > 8].mean()
        centre = film[(np.abs(chest.x) < 1.5) & (chest.y > 16) & (chest.y < 22)].mean()
        assert lung + 50 < centre


def test_boxes_follow_a_shifted_film() -> None:
    plan = with_finding("Mass")
    shifted = replace(plan, pose=replace(plan.pose, x=plan.pose.x - 2, rotation=0.0))
    straight = replace(plan, pose=replace(plan.pose, rotation=0.0))
    (before,), (after,) = render(straight, 320)[1], render(shifted, 320)[1]
    assert (after.x - before.x) * plan.pose.width == pytest.approx(2, abs=0.6)
    assert after.y == pytest.approx(before.y, abs=0.01)


def test_textures_have_mean_zero_and_variance_one() -> None:
    generator = np.random.default_rng(0)
    for plane in (grain(generator, 256), texture(generator, 256, 64)):
        assert plane.dtype == np.float32
        assert abs(float(plane.mean())) < 0.1
        assert 0.85 < float(plane.std()) < 1.15


def test_coarse_keeps_the_mean_and_loses_the_detail() -> None:
    noise = np.random.default_rng(0).standard_normal((128, 128), dtype=np.float32) + 5
    smooth = coarse(noise, 8)
    assert float(smooth.mean()) == pytest.approx(5, abs=0.05)
    assert float(smooth.std()) < 0.2


def test_points_keep_their_matter_when_splatted() -> None:
    chest = empty_chest(HEALTHY[0].anatomy, Pose(34.0, 3.0, 0.0, 16.0), SIZE)
    x, y, mass = np.array([1.0, -4.0, 90.0]), np.array([10.0, 18.5, 4.0]), np.array([2.0, 3.0, 7.0])
    for width in (0, 1, 3):
        thickness = chest.splat(x, y, mass, width=width)
        assert float(thickness.sum()) * (34.0 / SIZE) ** 2 == pytest.approx(
            5.0, rel=1e-4
        )  # the third lies off the film


def test_the_contact_sheet_is_a_small_picture(tmp_path: Path) -> None:
    contact_sheet(tmp_path / "sheet.png", size=64)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width == 256
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
