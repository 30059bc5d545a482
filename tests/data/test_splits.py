from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hilum.data.films import SPLITS, Films
from hilum.data.sources.nih import index_nih
from hilum.data.splits import shared_patients, split_summary
from hilum.errors import FilmsError


def films_of(patients: list[str], **notes: Any) -> Films:
    count = len(patients)
    table = pd.DataFrame(
        {
            "film": [f"{row:08d}_000.png" for row in range(count)],
            "path": [f"{row:08d}_000.png" for row in range(count)],
            "source": "nih",
            "patient": patients,
            "study": patients,
            "view": ["PA" if row % 4 else "AP" for row in range(count)],
            "age": np.nan,
            "sex": "unknown",
            "split": pd.Series([None] * count, dtype="str"),
            "Mass": np.array([(1.0, 0.0, np.nan)[row % 3] for row in range(count)], dtype=np.float32),
        }
    )
    return Films(table, Path("/films"), ("Mass",), notes)


def two_each(patients: int) -> Films:
    return films_of([str(row // 2) for row in range(2 * patients)])


def counts(films: Films, column: str = "film") -> dict[str, int]:
    return {split: films.table[column][films.table["split"] == split].nunique() for split in SPLITS}


def test_default_fractions() -> None:
    assert counts(two_each(100).split("patient"), "patient") == {"train": 70, "val": 10, "test": 20}
    assert counts(two_each(100).split("image")) == {"train": 140, "val": 0, "test": 60}


def test_the_drawing_is_golden() -> None:
    """Should these change, nobody can repeat yesterday's split."""
    films = films_of([str(row) for row in range(10)]).split("patient", seed=3)
    assert films.table["split"].tolist() == [
        "test",
        "train",
        "train",
        "train",
        "train",
        "train",
        "test",
        "val",
        "train",
        "train",
    ]


def test_notes_say_how_and_the_given_films_stay() -> None:
    films = two_each(20)
    split = films.split("patient", seed=4)
    assert films.table["split"].isna().all()
    assert films.notes == {}
    assert split.notes == {
        "problems": {"unsplit": []},
        "protocol": "patient",
        "split_seed": 4,
        "fractions": [0.7, 0.1, 0.2],
    }


@settings(max_examples=50, deadline=None)
@given(
    patients=st.lists(st.integers(0, 30).map(str), min_size=60, max_size=90),
    seed=st.integers(0, 2**40),
    protocol=st.sampled_from(["patient", "image"]),
    data=st.data(),
)
def test_split_is_total_and_independent_of_row_order(
    patients: list[str], seed: int, protocol: str, data: st.DataObject
) -> None:
    films = films_of([*patients, *map(str, range(31))])
    split = films.split(protocol, seed=seed)
    assert split.table["split"].isin(SPLITS).all()
    if protocol == "patient":
        assert set(shared_patients(split).values()) == {0}
    order = data.draw(st.permutations(range(len(films))))
    shuffled = Films(films.table.iloc[order].reset_index(drop=True), films.root, films.findings, {})
    assert shuffled.split(protocol, seed=seed).fingerprint() == split.fingerprint()


def test_seeds_differ() -> None:
    assert two_each(50).split("patient", seed=0).fingerprint() != two_each(50).split("patient", seed=1).fingerprint()


def test_image_protocol_shares_patients_and_says_so() -> None:
    assert shared_patients(two_each(100).split("image"))[("train", "test")] > 10


def test_fractions_may_be_zero() -> None:
    films = two_each(10).split("patient", fractions=(0.9, 0.1, 0.0))
    assert counts(films, "patient") == {"train": 9, "val": 1, "test": 0}


@pytest.mark.parametrize(
    "fractions", [(0.7, 0.1, 0.1), (1.2, -0.1, -0.1), (float("nan"), 0.5, 0.5), (0.0, 0.5, 0.5), (0.9, 0.2, 0.0)]
)
def test_fractions_must_sum_to_one(fractions: tuple[float, float, float]) -> None:
    with pytest.raises(FilmsError, match="fractions must be three numbers from 0 that sum to 1"):
        two_each(10).split("patient", fractions=fractions)


def test_other_mistakes_are_named() -> None:
    with pytest.raises(FilmsError, match="protocol must be one of official, patient, image, got 'random'"):
        two_each(10).split("random")
    with pytest.raises(FilmsError, match="seed must be a whole number from 0, got -1"):
        two_each(10).split("patient", seed=-1)
    with pytest.raises(FilmsError, match="split val must get one of the patients at least, got none of 3"):
        two_each(3).split("patient")
    with pytest.raises(FilmsError, match="got none"):
        two_each(10).split("official")
    with pytest.raises(FilmsError, match="got 1 of test"):
        films_of(["1", "2"], official_test=["00000000_000.png"]).split("official")
    with pytest.raises(FilmsError, match="fractions must be left out with protocol official"):
        two_each(10).split("official", fractions=(0.7, 0.1, 0.2))


def test_official_lists_decide_and_the_rest_is_named() -> None:
    films = two_each(20)
    names = films.table["film"].tolist()
    films.notes.update(official_train_val=names[:32], official_test=names[32:38])
    split = films.split("official", seed=1)
    assert counts(split, "patient") == {"train": 14, "val": 2, "test": 3}
    assert split.table["split"][32:38].tolist() == ["test"] * 6
    assert split.table["split"][38:].isna().all()
    assert split.notes["problems"]["unsplit"] == names[38:]
    assert split_summary(split)["split"].tolist() == ["train", "val", "test", "none"]
    again = split.split("patient")
    assert again.notes["problems"]["unsplit"] == []


def test_summary_is_golden() -> None:
    films = films_of(["a", "a", "b", "c"])
    films.table["split"] = ["train", "train", "test", "test"]
    summary = split_summary(films)
    columns = ["split", "films", "patients", "view PA", "view AP", "Mass positives"]
    assert summary[columns].to_numpy().tolist() == [["train", 2, 1, 0.5, 0.5, 1], ["test", 2, 2, 1.0, 0.0, 1]]
    assert summary["Mass prevalence"].tolist() == [0.5, 1.0]


def test_prevalence_without_any_known_label_is_nan() -> None:
    films = films_of(["a", "b"])
    films.table["Mass"] = np.array([np.nan, np.nan], dtype=np.float32)
    assert np.isnan(split_summary(films)["Mass prevalence"][0])


@pytest.mark.slow
@pytest.mark.real
def test_real_films_by_all_protocols(real_data: Path) -> None:
    films = index_nih(real_data / "nih")
    official = films.split("official")
    assert counts(official)["test"] == 763
    assert official.notes["problems"]["unsplit"] == []
    assert set(shared_patients(official).values()) == {0}
    assert set(shared_patients(films.split("patient")).values()) == {0}
    assert shared_patients(films.split("image"))[("train", "test")] > 50
