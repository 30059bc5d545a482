import pytest

from hilum.data.films import Films, read_films, write_films
from hilum.data.splits import folds, folds_again, out_of_fold, shared_patients
from hilum.errors import FilmsError


def test_each_patient_is_tested_once_and_trained_on_by_the_others(phantom_films: Films) -> None:
    before = phantom_films.table
    kept_apart = set(before["patient"][before["split"] == "test"])
    parts = folds(phantom_films, 4, seed=1)
    tested: list[str] = []
    for part in parts:
        assert set(shared_patients(part).values()) == {0}
        tested += part.select("test").table["film"].tolist()
        assert not kept_apart & set(part.table["patient"][part.table["split"].notna()])
        assert set(part.table["split"].dropna()) == {"train", "val", "test"}
    assert sorted(tested) == sorted(before["film"][before["split"] != "test"])
    assert [part.fingerprint() for part in folds(phantom_films, 4, seed=1)] == [part.fingerprint() for part in parts]
    assert folds(phantom_films, 4, seed=2)[0].fingerprint() != parts[0].fingerprint()


def test_the_manifest_of_all_folds_knows_them_again(phantom_films: Films) -> None:
    together = out_of_fold(phantom_films, 3, seed=1)
    path = phantom_films.root / "folds.parquet"
    write_films(together, path)
    again = folds_again(read_films(path))
    path.unlink()
    assert [one.fingerprint() for one in again] == [one.fingerprint() for one in folds(phantom_films, 3, seed=1)]
    assert folds_again(phantom_films) == []


@pytest.mark.parametrize("number", [2, 1000])
def test_too_few_or_too_many_folds_are_refused(phantom_films: Films, number: int) -> None:
    with pytest.raises(FilmsError, match="folds must be from 3"):
        folds(phantom_films, number)
