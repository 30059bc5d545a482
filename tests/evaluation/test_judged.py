from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.evaluation.inputs import EvaluationSet, read_evaluation_set


@settings(max_examples=30, deadline=None)
@given(
    numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=9),
    kind=st.sampled_from(["float32", "float64"]),
)
def test_what_is_written_ranks_the_films_as_before(
    tmp_path_factory: pytest.TempPathFactory, numbers: list[float], kind: str
) -> None:
    """Ties stay ties and differences stay differences, in either precision, whatever the order of the rows."""
    folder: Path = tmp_path_factory.mktemp("evaluated")
    films = [f"{len(numbers) - i:03d}.png" for i in range(len(numbers))]
    with np.errstate(over="ignore"):
        scores = np.nan_to_num(np.array(numbers).astype(kind))
    labels = np.arange(len(numbers), dtype=np.float32) % 2
    truth = pd.DataFrame({"film": films, "patient": "p", "Mass": labels, "Edema": np.float32("nan")})
    table = pd.DataFrame({"film": films, "Mass": scores, "Edema": scores[::-1]})
    EvaluationSet(truth, table, ("Mass", "Edema")).write(folder)
    read = read_evaluation_set(folder, ("Mass", "Edema"))
    assert read.truth["film"].tolist() == sorted(films)
    np.testing.assert_array_equal(read.labels[:, 0], labels[::-1])
    assert np.isnan(read.labels[:, 1]).all()
    np.testing.assert_array_equal(
        np.unique(read.numbers[:, 0], return_inverse=True)[1], np.unique(scores[::-1], return_inverse=True)[1]
    )
