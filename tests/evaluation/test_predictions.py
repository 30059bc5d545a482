from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.errors import HilumError, PredictionsError
from hilum.evaluation.inputs import read_predictions
from hilum.findings import CHESTXRAY14

HEADER = "film,Mass,Nodule\n"


def write(path: Path, text: str, *, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "at least one film, got an empty file in"),
        ("\n\n \n", "at least one film, got an empty file in"),
        (HEADER, "at least one film, got only a header in"),
        ("Mass,Nodule\n0.1,0.2\n", "columns must include 'film', got Mass, Nodule in"),
        ("film,age\na,3\n", "scores of at least one finding .* got film, age in"),
        (HEADER + "a,0.1,0.2\nb,high,0.2\n", "finite numbers, got 'high' in .*, row 3, column 'Mass', film 'b'"),
        (HEADER + "a,0.1,\n", "finite numbers, got nothing in .*, row 2, column 'Nodule', film 'a'"),
        (HEADER + "a,0.1,nan\n", "finite numbers, got 'nan' in .*, row 2, column 'Nodule'"),
        (HEADER + "a,inf,0.1\n", "finite numbers, got 'inf' in .*, row 2, column 'Mass'"),
        (HEADER + "a,1_0,0.1\n", "finite numbers, got '1_0' in .*, row 2, column 'Mass'"),
        (HEADER + "a,0.1,0.2\n\na,0.1,0.2\n", "got 'a' again in .*, row 4, column 'film' \\(first in row 2\\)"),
        (HEADER + ",0.1,0.2\n", "film must not be empty, got nothing in .*, row 2, column 'film'"),
        (HEADER + "a,0.1\n", "3 cells as the header has, got 2 in .*, row 2"),
        (HEADER + "a,0,1,2\n", "3 cells as the header has, got 4 in .*, row 2"),
        (HEADER + '"a,0.1,0.2\n', "must be CSV or Parquet, got: "),
        ("film,Mass,Mass\na,1,2\n", "Mass must have one column, got 'Mass' and 'Mass' in"),
        ("film,Infiltrate,Infiltration\na,1,2\n", "Infiltration must have one column"),
        ("film,film,Mass\na,b,2\n", "column 'film' must be there once"),
        ("film,prob_Mass,logit_Mass\na,1,2\n", "one set of scores, got 'prob_Mass' and 'logit_Mass' in"),
        ("film,Mass,resnet_Mass\na,1,2\n", "one set of scores, got 'Mass' and 'resnet_Mass' in"),
        ("film,label_Mass\na,1\n", "scores of at least one finding"),
        (HEADER + "a\0,0.1,0.2\n", "NUL"),
    ],
)
def test_broken_files_are_named_in_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "broken.csv", text)
    with pytest.raises(PredictionsError, match=message) as error:
        read_predictions(path, CHESTXRAY14)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_column_without_a_name_is_named_as_such(tmp_path: Path) -> None:
    table = read_predictions(
        write(tmp_path / "index.csv", ",film,Pleural-Thickening\n0,a,0.1\n"), CHESTXRAY14
    )  # pandas' own index
    assert list(table.columns) == ["film", "Pleural_Thickening"]
    assert table.attrs["ignored_columns"] == ["(no name)"]


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_named(tmp_path: Path, encoding: str) -> None:
    path = write(tmp_path / "broken.csv", HEADER + "é,0.1,0.2\n", encoding=encoding)
    with pytest.raises(PredictionsError, match="UTF-8"):
        read_predictions(path, CHESTXRAY14)


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv", tmp_path / ("long" * 200)):
        with pytest.raises(PredictionsError, match="must be a"):
            read_predictions(path, CHESTXRAY14)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(PredictionsError, match=r"CSV or Parquet, got .*cut\.parquet"):
        read_predictions(tmp_path / "cut.parquet", CHESTXRAY14)
    pd.DataFrame({"film": ["a"], "Mass": [None]}).to_parquet(tmp_path / "null.parquet")
    with pytest.raises(PredictionsError, match=r"got nothing in .*null\.parquet, row 1, column 'Mass', film 'a'"):
        read_predictions(tmp_path / "null.parquet", CHESTXRAY14)
    pd.DataFrame({"film": [], "Mass": []}).to_parquet(tmp_path / "empty.parquet")
    with pytest.raises(PredictionsError, match="got an empty table"):
        read_predictions(tmp_path / "empty.parquet", CHESTXRAY14)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: ("film,Mass,Nodule\n" + text).encode("utf-8", "surrogatepass"))
)
def test_nothing_but_a_hilum_error_comes_out_of_any_bytes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "fuzz.csv"
    path.write_bytes(content)
    try:
        table = read_predictions(path, CHESTXRAY14)
    except HilumError:
        return
    assert np.isfinite(table.drop(columns="film").to_numpy(dtype=float)).all()


@pytest.mark.parametrize("start", ["sep=;", '"sep=;"', "SEP=;"])
def test_excel_s_line_about_the_separator_is_no_header(tmp_path: Path, start: str) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(f"{start}\n" + HEADER.replace(",", ";") + "a;0.1;0.2\n")
    plain = tmp_path / "plain.csv"
    plain.write_text(HEADER + "a,0.1,0.2\n")
    one, other = (read_predictions(file, ("Mass", "Nodule")).reset_index(drop=True) for file in (path, plain))
    assert one.equals(other)


def test_films_that_predict_did_not_score_count_as_films_without_scores(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    path.write_text("film,error,fit,Mass\na,,ok,0.5\nb,film must be whole,,\nc,,lateral: seen from the side,\n")
    table = read_predictions(path, ("Mass",))
    assert table["film"].tolist() == ["a"]
    assert table.attrs["unscored"] == {"b": "film must be whole", "c": "lateral: seen from the side"}
    path.write_text("film,error,fit,Mass\na,,ok,0.5\nb,,ok,\n")
    with pytest.raises(PredictionsError, match=r"got nothing in .*row 3, column 'Mass'"):
        read_predictions(path, ("Mass",))
