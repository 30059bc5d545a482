import json
import shutil
from dataclasses import replace
from pathlib import Path

from hilum.data.audit import same_files
from hilum.data.films import Films
from hilum.evaluation.cohort import manifest_section


def test_counts_are_those_of_the_table(phantom_films: Films) -> None:
    section = manifest_section(phantom_films, look=False)
    assert json.loads(json.dumps(section, allow_nan=False)) == section
    table = phantom_films.table
    assert (section["films"], section["patients"]) == (len(table), table["patient"].nunique())
    assert [one["split"] for one in section["splits"]] == ["train", "val", "test"]
    for one in section["splits"]:
        part = table[table["split"] == one["split"]]
        assert one["films"] == len(part) == sum(one["views"].values())
        assert one["positives"]["Mass"] == (part["Mass"] == 1).sum()
        assert one["known"]["Mass"] == len(part)
    assert section["shared_patients"] == {"train/val": 0, "train/test": 0, "val/test": 0}
    assert section["copies"] is None  # not looked for


def test_a_film_without_split_has_its_own_row(phantom_films: Films) -> None:
    table = phantom_films.table.copy()
    table.loc[0, "split"] = None
    section = manifest_section(replace(phantom_films, table=table, notes={}), look=False)
    assert [one["split"] for one in section["splits"]] == ["train", "val", "test", "none"]
    assert section["splits"][-1]["films"] == 1
    assert set(section["problems"].values()) == {None}


def test_copies_are_found_wherever_they_lie(phantom_films: Films, tmp_path: Path) -> None:
    assert same_files(phantom_films) == []
    root = tmp_path / "films"
    shutil.copytree(phantom_films.root, root)
    films = replace(phantom_films, root=root)
    train, test = (films.select(split) for split in ("train", "test"))
    shutil.copy(train.path(0), test.path(0))
    train.path(1).unlink()
    section = manifest_section(films, look=True)
    assert section["copies"]["groups"] == section["copies"]["across_splits"] == 1
    pair = {train.table["film"].iloc[0], test.table["film"].iloc[0]}
    assert set(section["copies"]["first"][0]) == pair
