"""Boxes and points against hand-computed values, and against counting every cell of the film."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hilum.metrics.localization import MEASURES, REGION_LEVELS, Marks, at_centre, at_random, choose_level, hits, mark

SIDE = 40


def only(points: list[list[float]], boxes: list[list[float]]) -> Marks:
    return Marks(np.array(points), np.array(boxes))


def right(marks: Marks, *truths: list[float]) -> list[set[str]]:
    return [{name for name, hit in zip(MEASURES, row, strict=True) if hit} for row in hits(marks, np.array(truths))]


def test_the_level_that_fits_the_boxes_is_chosen() -> None:
    across = np.linspace(0, 1, 128)
    hill = 1 - np.abs(across - 0.5)[:, None] - np.abs(across - 0.5)[None]
    generator = np.random.default_rng(0)
    for level in (0.5, 0.8):
        half = (1 - level) * 0.707  # half a side of a box of the area that this level outlines
        shifts = generator.normal(0, 0.02, (30, 2))
        truths = [np.array([[0.5 - half + dx, 0.5 - half + dy, 2 * half, 2 * half]]) for dx, dy in shifts]
        chosen = choose_level([np.maximum(hill, 0)] * 30, truths)
        assert level - 0.08 <= chosen.value <= level + 0.16
        assert chosen.value in REGION_LEVELS
        assert 0.5 < chosen.iou <= 1


def test_a_level_needs_a_map_and_an_empty_map_has_no_region() -> None:
    with pytest.raises(ValueError, match="strengths must be of at least one finding"):
        choose_level([], [])
    assert choose_level([np.zeros((4, 4))], [np.array([[0.1, 0.1, 0.5, 0.5]])]).iou == 0


def test_overlaps_by_hand() -> None:
    # 0.4 x 0.4 against 0.4 x 0.2, of which 0.2 x 0.2 in common: IoU 0.04 / 0.20 = 0.2, IoBB 0.04 / 0.16 = 0.25
    marks = only([[0.5, 0.3]], [[0.1, 0.1, 0.4, 0.4]])
    assert right(marks, [0.3, 0.3, 0.4, 0.2]) == [{"pointing", "centre", "iou_0.1", "iobb_0.1"}]


def test_a_small_box_inside_a_large_truth_has_full_iobb_and_little_iou() -> None:
    marks = only([[0.95, 0.95]], [[0.4, 0.4, 0.2, 0.2]])  # IoU 0.04 / 0.64
    found = {"centre", "iobb_0.1", "iobb_0.25", "iobb_0.5", "iobb_0.75"}
    assert right(marks, [0.1, 0.1, 0.8, 0.8]) == [found]


def test_the_right_box_is_right_by_every_measure_and_the_best_of_several_truths_counts() -> None:
    truth = [0.25, 0.5, 0.25, 0.25]
    marks = only([[0.3, 0.6]], [truth])
    assert right(marks, truth) == [set(MEASURES)]
    assert right(marks, [0.0, 0.0, 0.1, 0.1], truth) == [set(MEASURES)]
    assert right(marks, [0.0, 0.0, 0.1, 0.1]) == [set()]


def test_a_map_s_box_by_hand() -> None:
    # The strongest place is one of two neighbours; a second region is smaller, whatever its height.
    class_map = np.zeros((8, 8))
    class_map[2, 3], class_map[3, 3], class_map[6, 6] = 9.0, 10.0, 10.0
    found = mark(class_map, threshold=0.5)
    assert found.points.tolist() == [[3.5 / 8, 3.5 / 8]]
    left, top, width, height = found.boxes[0]
    # bilinear slopes: half of 10 is reached half a place away from the centre, that is 0.44 places from that of 9
    assert left * 8 == pytest.approx(3.0, abs=8 / 128)
    assert width * 8 == pytest.approx(1.0, abs=8 / 128)
    assert top * 8 == pytest.approx(2.5 - 4 / 9, abs=8 / 128)
    assert (top + height) * 8 == pytest.approx(4.0, abs=8 / 128)


def test_a_flat_map_marks_nothing_and_neither_do_boxes_of_its_size() -> None:
    flat = mark(np.full((4, 4), 0.3))
    everywhere = [0.0, 0.0, 1.0, 1.0]
    assert right(flat, everywhere) == [set()]
    assert right(at_centre(flat), everywhere) == [{"pointing"}]


def test_controls_keep_the_sizes_and_stay_inside_the_film() -> None:
    marks = only([[0.1, 0.1], [0.9, 0.2]], [[0.0, 0.0, 0.2, 0.6], [0.5, 0.1, 0.4, 0.3]])
    central = at_centre(marks)
    assert central.boxes == pytest.approx(np.array([[0.4, 0.2, 0.2, 0.6], [0.3, 0.35, 0.4, 0.3]]))
    drawn = at_random(marks, np.random.default_rng(0), times=500)
    assert np.array_equal(drawn.boxes[:500, 2:], np.tile([[0.2, 0.6]], (500, 1)))
    assert (drawn.boxes[:, :2] >= 0).all()
    assert (drawn.boxes[:, :2] + drawn.boxes[:, 2:] <= 1).all()
    truth = np.array([[0.2, 0.3, 0.5, 0.4]])
    assert hits(drawn, truth)[:, 0].mean() == pytest.approx(0.2, abs=0.04)  # the truth's share of the film


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match=r"threshold must be in \(0, 1\)"):
        mark(np.eye(3), threshold=1.0)
    with pytest.raises(ValueError, match="class_map must be finite"):
        mark(np.array([[0.0, np.nan]]))


def counted(box: list[int], truths: list[list[int]]) -> tuple[float, float]:
    """IoU and IoBB by looking at every cell."""
    best = [0.0, 0.0]
    for truth in truths:
        inside = [
            [low <= cell < low + extent for cell in range(SIDE)]
            for one in (box, truth)
            for low, extent in ((one[0], one[2]), (one[1], one[3]))
        ]
        own = true = both = 0
        for x in range(SIDE):
            for y in range(SIDE):
                mine, theirs = inside[0][x] and inside[1][y], inside[2][x] and inside[3][y]
                own, true, both = own + mine, true + theirs, both + (mine and theirs)
        best = [max(best[0], both / (own + true - both)), max(best[1], both / own)]
    return best[0], best[1]


whole_box = st.tuples(*[st.integers(0, SIDE - 1)] * 2, *[st.integers(1, SIDE)] * 2).map(
    lambda b: [b[0], b[1], min(b[2], SIDE - b[0]), min(b[3], SIDE - b[1])]
)


@settings(max_examples=40)
@given(whole_box, st.lists(whole_box, min_size=1, max_size=3))
def test_overlaps_are_those_of_counting_cells(box: list[int], truths: list[list[int]]) -> None:
    found = right(only([[0.5, 0.5]], [[side / SIDE for side in box]]), *[[s / SIDE for s in t] for t in truths])[0]
    for name, overlap in zip(("iou", "iobb"), counted(box, truths), strict=True):
        for measure in MEASURES:
            kind, _, least = measure.partition("_")
            if kind == name and abs(overlap - float(least)) > 1e-9:
                assert (measure in found) == (overlap > float(least))


def flooded(strong: list[list[bool]]) -> set[tuple[int, int, int, int]]:
    """Bounds of the largest regions, found by walking from each cell."""
    seen: set[tuple[int, int]] = set()
    regions: list[list[tuple[int, int]]] = []
    side = len(strong)
    for start in ((r, c) for r in range(side) for c in range(side)):
        if start in seen or not strong[start[0]][start[1]]:
            continue
        seen.add(start)
        region, waiting = [], deque([start])
        while waiting:
            r, c = waiting.popleft()
            region.append((r, c))
            for other in ((r - 1, c), (r + 1, c), (r, c - 1), (r, c + 1)):
                if min(other) >= 0 and max(other) < side and other not in seen and strong[other[0]][other[1]]:
                    seen.add(other)
                    waiting.append(other)
        regions.append(region)
    most = max(map(len, regions))
    bounds = set()
    for region in regions:
        if len(region) == most:
            rows, columns = [r for r, _ in region], [c for _, c in region]
            bounds.add((min(columns), min(rows), max(columns) + 1 - min(columns), max(rows) + 1 - min(rows)))
    return bounds


@settings(max_examples=15)
@given(arrays(np.float64, (5, 5), elements=st.integers(0, 20).map(float)), st.sampled_from([0.3, 0.5, 180 / 255]))
def test_boxes_are_those_of_walking_through_the_enlarged_map(class_map: np.ndarray, threshold: float) -> None:
    if class_map.min() == class_map.max():
        return
    centres = np.clip((np.arange(128) + 0.5) * 5 / 128 - 0.5, 0, 4)
    across = np.stack([np.interp(centres, np.arange(5), row) for row in class_map])
    fine = np.stack([np.interp(centres, np.arange(5), column) for column in across.T], axis=1)
    level = fine.min() + threshold * (fine.max() - fine.min())
    if (abs(fine - level) < 1e-9).any():
        return  # on the edge, rounding decides
    box = tuple(mark(class_map, threshold=threshold).boxes[0] * 128)
    assert box in flooded((fine >= level).tolist())
