import pytest

from hilum.evaluation.views import Cell, forest


def test_marks_lie_around_the_middle() -> None:
    plot = forest(
        "AUROC",
        [
            (Cell("F", "sex"), {"value": 0.06, "low": -0.03, "high": 0.12}),
            (Cell("M", "sex"), {"value": -0.15, "low": None, "high": None}),
            (Cell("20"), {"value": None, "low": None, "high": None}),
        ],
        nothing="too small",
    )
    assert plot is not None
    assert plot.limit == pytest.approx(0.15)
    assert plot.rows[0].marks == pytest.approx((40.0, 70.0, 90.0, 50.0))
    assert plot.rows[0].difference == Cell("+0.060", "-0.030 to +0.120")
    assert plot.rows[1].marks == pytest.approx((0.0, 0.0, 0.0, 50.0))
    assert (plot.rows[2].marks, plot.rows[2].difference.text) == (None, "too small")


def test_no_number_no_plot() -> None:
    assert forest("AUROC", [(Cell("F"), {"value": None, "low": None, "high": None})], nothing="too small") is None
    assert forest("AUROC", [], nothing="too small") is None
