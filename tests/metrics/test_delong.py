"""DeLong's test against published examples, against all pairs, and at its limits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import pairs_placements
from scipy.stats import norm

from hilum.metrics.ranking import auroc, placements

NAN = float("nan")

GOOD_OUTCOME = """
1 0.13 3.01  1 0.14 8.54  1 0.1 8.09  1 0.04 10.42  5 0.47 6  1 0.18 15.54  2 0.1 6.01  2 0.1 17.86  1 0.04 13.41
2 0.08 20.75  2 0.04 16.11  1 0.09 49.94  1 0.11 9.47  1 0.07 6.29  2 0.17 12.53  1 0.07 6.54  2 0.11 6.3  1 0.13 80.3
1 0.19 12.8  3 0.05 9.8  4 0.16 9.81  1 0.14 18.21  4 0.34 5.03  1 0.09 8.02  5 0.5 6.59  5 0.46 9.63  1 0.16 13.12
1 0.07 7.96  2 0.43 14.34  4 0.45 41.43  1 0.11 7.63  1 0.08 7.06  2 0.09 12.59  2 0.08 9.44  1 0.06 7.66
2 0.13 12.98  1 0.1 27.19  2 0.14 22.27  2 0.15 9.95  1 0.06 11.73  1 0.05 58.83  1 0.09 6.39  1 0.04 17.21
2 0.09 9.7  1 0.08 10.51  2 0.16 10.6  1 0.09 14.57  1 0.08 4.61  3 0.33 17.3  2 0.11 12.71  4 0.28 9.44  2 0.07 11.07
1 0.1 19.46  4 0.32 10.83  1 0.07 11.97  1 0.05 7.75  5 0.24 9.83  4 0.38 10.55  2 0.1 28.49  2 0.15 8.53
1 0.08 12.57  1 0.14 12.9  1 0.1 46.83  3 0.07 11.68  1 0.04 12.67  2 0.19 9.01  2 0.15 24.58  4 0.47 10.33
4 0.17 13.87  1 0.15 22.43  1 0.5 6.79  1 0.48 13.45
"""
POOR_OUTCOME = """
3 0.13 17.4  2 0.1 12.75  4 0.16 13.2  5 0.12 15.96  5 0.44 5.18  5 0.71 8.9  5 0.49 11.6  2 0.07 32.37  5 0.33 54.82
2 0.09 32.41  1 0.07 40.34  2 0.41 9.85  5 0.35 14.04  4 0.48 21.93  4 0.96 7.42  2 0.25 8.38  5 0.86 13.56
5 0.52 3.87  5 2.07 419.19  2 0.07 21.22  5 0.77 10.4  2 0.3 11.09  5 0.03 12.22  2 0.09 13.67  4 0.23 22.63
5 0.7 12.9  4 0.27 21.57  4 0.71 8.23  1 0.08 72.57  4 0.26 15.54  4 0.13 5.19  2 0.1 9.63  2 0.11 21.48  5 0.22 5.37
5 0.56 9.57  2 0.14 34.06  2 0.58 11.72  5 0.32 14.26  5 0.82 47.61  5 0.74 11.67  5 0.44 15.89
"""
"""World Federation of Neurological Surgeons grade, S100-beta and NDKA (both in ug/l) of 113 patients with aneurysmal
subarachnoid haemorrhage, by their outcome.

Source: Turck et al., Intensive Care Medicine 36, 2010; as the data set aSAH of Robin et al., "pROC: an open-source
    package for R and S+ to analyze and compare ROC curves", BMC Bioinformatics 12:77, 2011, version 1.18.0.
"""

OVARIAN = """
3.0 5.8 10 0  3.2 6.3  5 1  3.9 6.8  3 1  2.8 4.8  6 0  3.2 5.8  3 1  0.9 4.0  5 0  2.5 5.7  8 0  1.6 5.6  5 1
3.8 5.7  5 1  3.7 6.7  6 1  3.2 5.4  4 1  3.8 6.6  6 1  4.1 6.6  5 1  3.6 5.7  5 1  4.3 7.0  4 1  3.6 6.7  4 0
2.3 4.4  6 1  4.2 7.6  4 0  4.0 6.6  6 0  3.5 5.8  6 1  3.8 6.8  7 1  3.0 4.7  8 0  4.5 7.4  5 1  3.7 7.4  5 1
3.1 6.6  6 1  4.1 8.2  6 1  4.3 7.0  5 1  4.3 6.5  4 1  3.2 5.1  5 1  2.6 4.7  6 1  3.3 6.8  6 0  1.7 4.0  7 0
3.7 6.1  5 1  3.3 6.3  7 1  4.2 7.7  6 1  3.5 6.2  5 1  2.9 5.7  9 0  2.1 4.8  7 1  2.8 6.2  8 0  4.0 7.0  7 1
3.3 5.7  6 1  3.7 6.9  5 1  3.6 6.6  5 1
"""
"""DeLong's own example: albumin, total protein, K-G score (low is good) and outcome of 43 patients with ovarian cancer.

Source of the data: SAS/STAT 14.1, PROC LOGISTIC, example "Comparing Receiver Operating Characteristic Curves".
https://support.sas.com/documentation/cdl/en/statug/68162/HTML/default/statug_logistic_examples08.htm
The page's printed results could not be read; the values below were computed over all pairs, apart from Hilum.
"""


def ovarian() -> tuple[np.ndarray, np.ndarray]:
    table = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    return np.stack([table[:, 0], table[:, 1], 10 - table[:, 2]], axis=1), table[:, 3]


def haemorrhage() -> tuple[np.ndarray, np.ndarray]:
    good, poor = (np.array(text.split(), dtype=float).reshape(-1, 3) for text in (GOOD_OUTCOME, POOR_OUTCOME))
    return np.concatenate([good, poor]), np.repeat([0.0, 1.0], [len(good), len(poor)])


@pytest.mark.parametrize(
    ("first", "second", "z", "p_value", "low", "high"),
    [
        (1, 0, 2.20898359144091, 0.0271757822291882, 0.0104061769564846, 0.174214419249478),
        (2, 0, 2.79777591868904, 0.00514557970691098, 0.0634011709339876, 0.3600405634833566),
        (1, 2, -1.39077002573558, 0.164295175223054, -0.2876917446341914, 0.0488706064228094),
    ],
    ids=["WFNS minus S100-beta", "WFNS minus NDKA", "NDKA minus S100-beta"],
)
def test_delong_equals_procs_published_results(
    first: int, second: int, z: float, p_value: float, low: float, high: float
) -> None:
    """To every printed digit. Source: github.com/xrobin/pROC, tests/testthat/test-roc.test.R (expected values)."""
    scores, labels = haemorrhage()
    found = placements(scores, labels)
    assert (len(found.present), len(found.absent)) == (41, 72)
    np.testing.assert_allclose(found.auroc, [0.8237, 0.7314, 0.6120], atol=5e-5)
    test = found.test(first, second)
    assert test.difference / test.standard_error == pytest.approx(z, rel=1e-12)
    assert test.p_value == pytest.approx(p_value, rel=1e-12)
    half = norm.ppf(0.975) * test.standard_error
    np.testing.assert_allclose([test.difference - half, test.difference + half], [low, high], rtol=1e-9)


def test_delong_on_delongs_own_example() -> None:
    scores, labels = ovarian()
    found = placements(scores, labels)
    assert (len(found.present), len(found.absent)) == (31, 12)
    np.testing.assert_allclose(found.auroc, [0.7366, 0.6478, 0.7258], atol=5e-5)
    np.testing.assert_allclose(np.sqrt(np.diag(found.covariance)), [0.0927, 0.1000, 0.1028], atol=5e-5)
    albumin, protein = found.test(2, 0), found.test(2, 1)
    np.testing.assert_allclose(albumin, [0.0108, 0.0953, 0.9102], atol=5e-5)
    np.testing.assert_allclose(protein, [-0.0780, 0.1046, 0.4561], atol=5e-5)
    contrast = np.array([[1, 0, -1], [0, 1, -1]])
    differences = contrast @ found.auroc
    chi_square = differences @ np.linalg.solve(contrast @ found.covariance @ contrast.T, differences)
    assert chi_square == pytest.approx(2.5340, abs=5e-5)


def test_delong_by_hand() -> None:
    """Present 3, 1, absent 2, 1: placements 1 and 1/4, and 1/2 and 3/4. Variances 0.28125 / 2 and 0.03125 / 2."""
    found = placements(np.array([[3.0], [1.0], [2.0], [1.0]]), [1, 1, 0, 0])
    np.testing.assert_allclose(found.present[:, 0], [1, 0.25])
    np.testing.assert_allclose(found.absent[:, 0], [0.5, 0.75])
    assert found.auroc[0] == 0.625
    assert found.covariance[0, 0] == pytest.approx(0.15625)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.sampled_from([0.0, 1.0, NAN])), min_size=1, max_size=20)
)
def test_delong_equals_the_oracle_over_all_pairs(rows: list[tuple[int, int, float]]) -> None:
    table = np.array(rows, dtype=float)
    found = placements(table[:, :2], table[:, 2])
    for system in range(2):
        present, absent = pairs_placements(table[:, system].tolist(), table[:, 2].tolist())
        if not present or not absent:
            assert np.isnan(found.auroc[system])
            continue
        np.testing.assert_allclose(found.present[:, system], present, atol=1e-14)
        np.testing.assert_allclose(found.absent[:, system], absent, atol=1e-14)
        assert found.auroc[system] == pytest.approx(auroc(table[:, system], table[:, 2]), abs=1e-14)
    enough = min((table[:, 2] == 1).sum(), (table[:, 2] == 0).sum()) >= 2
    assert np.isnan(found.covariance).all() != enough
    if enough:
        variance = found.covariance[0, 0] + found.covariance[1, 1] - 2 * found.covariance[0, 1]
        assert found.test(0, 1).standard_error ** 2 == pytest.approx(variance, abs=1e-14)


def test_delong_of_equal_systems_is_exactly_nothing() -> None:
    scores, labels = ovarian()
    assert placements(scores[:, [0, 0]], labels).test(0, 1) == (0.0, 0.0, 1.0)


def test_delong_gives_no_p_value_where_the_difference_cannot_vary() -> None:
    scores = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]])
    test = placements(scores, [1, 1, 0, 0]).test(0, 1)
    assert (test.difference, test.standard_error) == (-0.5, 0.0)
    assert np.isnan(test.p_value)
