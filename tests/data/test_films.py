import contextlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.data.films import COLUMNS, Films, read_films, validate, write_films
from hilum.errors import FilmsError

FINDINGS = ("Mass", "Hernia")


def some_films(root: Path = Path("/films"), count: int = 6) -> Films:
    rows = range(count)
    table = pd.DataFrame(
        {
            "film": [f"{row:08d}_000.png" for row in rows],
            "path": [f"images/{row:08d}_000.png" for row in rows],
            "source": ["nih"] * count,
            "patient": [str(row // 2) for row in rows],
            "study": [f"{row // 2}_{row % 2}" for row in rows],
            "view": ["PA", "AP", "unknown"] * (count // 3),
            "age": [float(50 + row) for row in rows],
            "sex": ["M", "F"] * (count // 2),
            "split": ["train"] * (count - 2) + ["test", None],
            "Mass": np.array([0.0, 1.0, np.nan] * (count // 3), dtype=np.float32),
            "Hernia": np.zeros(count, dtype=np.float32),
        }
    )
    return Films(table, root, FINDINGS, {"source": "hand", "boxes": []})


def changed(column: str, row: int, value: Any) -> Films:
    films = some_films()
    values = films.table[column].tolist()
    values[row] = value
    films.table[column] = values
    return films


def test_a_film_s_path_and_labels() -> None:
    films = some_films()
    assert len(films) == 6
    assert films.path(2) == Path("/films/images/00000002_000.png")
    assert films.labels(1).dtype == np.float32
    np.testing.assert_array_equal(films.labels(1), [1, 0])
    np.testing.assert_array_equal(films.labels(2), [np.nan, 0])
    assert films.all_labels.shape == (6, 2)


def test_labels_are_copies() -> None:
    films = some_films()
    films.all_labels[:] = 7
    films.labels(0)[:] = 7
    np.testing.assert_array_equal(films.labels(0), [0, 0])


def test_select() -> None:
    films = some_films()
    chosen = films.select("test")
    assert chosen.table["film"].tolist() == ["00000004_000.png"]
    assert chosen.table.index.tolist() == [0]
    assert chosen.root == films.root


@pytest.mark.parametrize(
    ("split", "splits", "message"),
    [
        ("test", [None] * 6, "hilum split"),
        ("val", ["train"] * 6, "at least one film, got none of 6"),
        ("dev", ["train"] * 6, "one of train, val, test, got 'dev'"),
    ],
)
def test_select_says_what_to_do(split: str, splits: list[str | None], message: str) -> None:
    films = some_films()
    films.table["split"] = splits
    with pytest.raises(FilmsError, match=message):
        films.select(split)


def test_round_trip_keeps_everything(tmp_path: Path) -> None:
    films = some_films(tmp_path / "data")
    write_films(films, tmp_path / "films.parquet")
    again = read_films(tmp_path / "films.parquet")
    pd.testing.assert_frame_equal(again.table, films.table, check_dtype=False)
    assert again.table["Mass"].dtype == np.float32
    assert isinstance(again.table.index, pd.RangeIndex)
    assert (again.root, again.findings, again.notes) == (films.root.resolve(), films.findings, films.notes)
    assert again.fingerprint() == films.fingerprint()
    assert [entry.name for entry in tmp_path.iterdir()] == ["films.parquet"]


def test_a_manifest_without_any_split_or_age_reads_back(tmp_path: Path) -> None:
    films = some_films(tmp_path)
    films.table["split"] = None
    films.table["age"] = np.nan
    write_films(films, tmp_path / "films.parquet")
    again = read_films(tmp_path / "films.parquet")
    assert again.table["split"].isna().all()
    assert again.table["age"].isna().all()


def test_manifest_and_root_can_move_together(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    write_films(some_films(tmp_path / "here" / "nih"), tmp_path / "here" / "films.parquet")
    (tmp_path / "here").rename(tmp_path / "there")
    assert read_films(tmp_path / "there" / "films.parquet").root == (tmp_path / "there" / "nih").resolve()


@settings(max_examples=20)
@given(order=st.permutations(range(6)))
def test_fingerprint_does_not_know_order_or_root(order: list[int]) -> None:
    films = some_films()
    shuffled = films.table.iloc[order].reset_index(drop=True)
    assert Films(shuffled, Path("/elsewhere"), FINDINGS, {}).fingerprint() == films.fingerprint()


@pytest.mark.parametrize(
    ("column", "value"), [("film", "new.png"), ("patient", "9"), ("split", "val"), ("Hernia", 1.0), ("Hernia", np.nan)]
)
def test_fingerprint_knows_ids_patients_splits_and_labels(column: str, value: Any) -> None:
    assert changed(column, 3, value).fingerprint() != some_films().fingerprint()


def test_fingerprint_stays() -> None:
    assert some_films().fingerprint() == "64f66adeaef91528fd08c1b5c3819b34be0f9de5871c05047e2ba7ca26587b77"


@pytest.mark.parametrize(
    ("column", "row", "value", "message"),
    [
        ("film", 1, "00000000_000.png", "film must be unique, got '00000000_000.png' in f.parquet, row 2"),
        ("film", 1, "", "film must be text that is not empty, got '' in f.parquet, row 2"),
        ("patient", 5, None, "patient must be text that is not empty, got .* in f.parquet, row 6"),
        ("path", 0, "/etc/passwd", "path must be relative to the manifest's root"),
        ("path", 0, "a/../../b.png", "path must be relative to the manifest's root and stay inside it"),
        ("view", 2, "LL", "view must be one of PA, AP, LATERAL, unknown, got 'LL' in f.parquet, row 3"),
        ("sex", 0, "m", "sex must be one of M, F, unknown, got 'm'"),
        ("split", 3, "dev", "split must be one of train, val, test or null, got 'dev'"),
        ("age", 0, 412.0, "age must be from 0 to 120 years, or NaN if unknown, got .*412.0.* in f.parquet, row 1"),
        ("age", 0, -1.0, "age must be from 0"),
        ("age", 0, "58", "age must be a column of floats"),
        ("Mass", 3, 0.5, "Mass must be 0 .* got .*0.5.* in f.parquet, row 4, film '00000003_000.png'"),
        ("Mass", 3, -2.0, "Mass must be 0"),
        ("Hernia", 3, np.inf, "Hernia must be 0"),
        ("Hernia", 3, "yes", "Hernia must be a column of floats"),
    ],
)
def test_validate_names_file_row_and_column(column: str, row: int, value: Any, message: str) -> None:
    with pytest.raises(FilmsError, match=message):
        validate(changed(column, row, value).table, FINDINGS, "f.parquet")


def test_validate_wants_the_columns_and_at_least_one_film() -> None:
    table = some_films().table
    with pytest.raises(FilmsError, match=r"got no column 'patient' in f\.parquet"):
        validate(table.drop(columns="patient"), FINDINGS, "f.parquet")
    with pytest.raises(FilmsError, match="columns must be"):
        validate(table.assign(extra=1.0), FINDINGS, "f.parquet")
    with pytest.raises(FilmsError, match="films must be at least one"):
        validate(table.iloc[:0], FINDINGS, "f.parquet")
    for findings in ((), ("age",), ("Mass", "Mass")):
        with pytest.raises(FilmsError, match="findings must be distinct"):
            validate(table, findings, "f.parquet")


def test_writing_a_wrong_table_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(FilmsError, match="view must be"):
        write_films(changed("view", 0, "LL"), tmp_path / "films.parquet")
    assert not list(tmp_path.iterdir())


def test_writing_onto_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "films.parquet").mkdir()
    with pytest.raises(FilmsError, match="must be a file that can be written"):
        write_films(some_films(), tmp_path / "films.parquet")
    assert [entry.name for entry in tmp_path.iterdir()] == ["films.parquet"]


def test_reading_what_is_no_manifest(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    with pytest.raises(FilmsError, match="is no file"):
        read_films(path)
    path.write_text("film,path\n")
    with pytest.raises(FilmsError, match="must be a Parquet manifest"):
        read_films(path)
    pq.write_table(pa.table({"film": ["a"]}), path)
    with pytest.raises(FilmsError, match="got another table in"):
        read_films(path)


@pytest.mark.parametrize(
    "header",
    [
        b"{",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"format": 2, "root": ".", "findings": ["Mass"], "notes": {}}).encode(),
        json.dumps({"format": 1, "root": "a\0b", "findings": ["Mass"], "notes": {}}).encode(),
        json.dumps({"format": 1, "root": ".", "findings": [1], "notes": {}}).encode(),
    ],
)
def test_reading_a_broken_header(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "films.parquet"
    pq.write_table(pa.table({name: ["a"] for name in COLUMNS}).replace_schema_metadata({b"hilum": header}), path)
    with pytest.raises(FilmsError):
        read_films(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_damage_to_a_manifest_gives_a_traceback(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "films.parquet"
    write_films(some_films(tmp_path), path)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    with contextlib.suppress(FilmsError):
        read_films(path)


def test_uncertain_labels_are_kept_and_unknown_to_evaluation(tmp_path: Path) -> None:
    films = some_films()
    before = films.fingerprint()
    films.table.loc[[0, 2], "Mass"] = -1.0
    place = films.findings.index("Mass")
    write_films(films, tmp_path / "films.parquet")
    again = read_films(tmp_path / "films.parquet")
    assert again.table["Mass"].tolist()[:3:2] == [-1, -1]
    assert np.isnan(again.all_labels[[0, 2], place]).all()
    assert np.isnan(again.labels(0)[place])
    assert again.fingerprint() == films.fingerprint() != before
    unknown = some_films()
    unknown.table.loc[[0, 2], "Mass"] = np.nan
    assert unknown.fingerprint() != films.fingerprint()


def test_policies_give_targets_for_uncertain_labels_alone() -> None:
    films = some_films()
    films.table.loc[[0, 2], "Mass"] = -1.0
    place = films.findings.index("Mass")
    certain = films.all_labels
    for policy, value in (("zeros", 0.0), ("ones", 1.0), ("ignore", np.nan)):
        targets = films.targets({"Mass": policy}, seed=0)  # type: ignore[dict-item]
        np.testing.assert_array_equal(targets[[0, 2], place], [value, value])
        certain[[0, 2], place] = value
        np.testing.assert_array_equal(targets, certain)
    soft = films.targets({"Mass": "soft"}, seed=0)[[0, 2], place]
    assert ((soft >= 0.55) & (soft <= 0.85)).all()
    assert soft[0] != soft[1]
    backwards = replace(films, table=films.table[::-1].reset_index(drop=True)).targets({"Mass": "soft"}, seed=0)
    np.testing.assert_array_equal(backwards[::-1][[0, 2], place], soft)


def test_each_source_may_have_its_own_folder(tmp_path: Path) -> None:
    films = replace(some_films(), roots={"nih": tmp_path / "elsewhere"})
    write_films(films, tmp_path / "films.parquet")
    again = read_films(tmp_path / "films.parquet")
    assert again.path(0) == tmp_path / "elsewhere" / films.table["path"][0]
    assert again.roots == films.roots


def test_manifests_of_the_format_before_are_read(tmp_path: Path) -> None:
    path = tmp_path / "films.parquet"
    write_films(some_films(), path)
    stored = pq.read_table(path)
    header = json.loads(stored.schema.metadata[b"hilum"])
    del header["roots"]
    stored = stored.replace_schema_metadata({b"hilum": json.dumps({**header, "format": 1}).encode()})
    pq.write_table(stored, path)
    assert read_films(path).fingerprint() == some_films().fingerprint()
