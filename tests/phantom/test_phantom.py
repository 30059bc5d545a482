import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import UInt8
from PIL import Image

from hilum.data.sources.nih import index_nih
from hilum.errors import FilmsError
from hilum.findings import CHESTXRAY14, NO_FINDING, canonical
from hilum.phantom.dataset import BLOCK, ILLNESSES, other_patients, plan_films, write_phantom
from hilum.phantom.film import FilmPlan, render
from hilum.phantom.findings import Box
from hilum.phantom.lateral import lateral_views

SIZE = 64


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom")
    write_phantom(folder, films=60, size=SIZE, seed=7)
    return folder


@pytest.fixture(scope="module")
def entries(phantom: Path) -> pd.DataFrame:
    return pd.read_csv(phantom / "Data_Entry_2017_v2020.csv")


def test_the_same_seed_writes_the_same_bytes(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, films=60, size=SIZE, seed=7)
    assert files(tmp_path) == files(phantom)


def test_another_seed_writes_other_films(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, films=2, size=SIZE, seed=8)
    name = "images/00000001_000.png"
    assert (tmp_path / name).read_bytes() != (phantom / name).read_bytes()


def test_fewer_films_are_the_first_of_more(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, films=9, size=SIZE, seed=7)
    few, many = files(tmp_path), files(phantom)
    assert all(many[name] == content for name, content in few.items() if name.startswith("images"))
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "test_list.txt", "train_val_list.txt"):
        assert many[name].startswith(few[name])


def test_headers_are_those_of_nih(phantom: Path) -> None:
    headers = {path.name: path.read_text().splitlines()[0] for path in phantom.glob("*.csv")}
    assert headers == {
        "Data_Entry_2017_v2020.csv": "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,"
        "View Position,OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]",
        "BBox_List_2017.csv": "Image Index,Finding Label,Bbox [x,y,w,h],,,",
    }


@pytest.mark.real
def test_headers_are_those_of_the_real_files(phantom: Path, real_data: Path) -> None:
    for path in phantom.glob("*.csv"):
        assert path.read_text().splitlines()[0] == (real_data / "nih" / path.name).read_text().splitlines()[0]


def test_every_row_has_an_8_bit_grey_film(phantom: Path, entries: pd.DataFrame) -> None:
    assert sorted(entries["Image Index"]) == sorted(path.name for path in (phantom / "images").iterdir())
    for name in entries["Image Index"]:
        with Image.open(phantom / "images" / name) as image:
            assert (image.mode, image.size, image.format) == ("L", (SIZE, SIZE), "PNG")


def test_columns_hold_what_nih_would_write(entries: pd.DataFrame) -> None:
    assert entries["Image Index"].tolist() == [
        f"{patient:08d}_{follow_up:03d}.png"
        for patient, follow_up in zip(entries["Patient ID"], entries["Follow-up #"], strict=True)
    ]
    assert set(entries["View Position"]) == {"PA", "AP"}
    assert set(entries["Patient Gender"]) == {"M", "F"}
    assert entries["Patient Age"].between(1, 100).all()
    words = {word for labels in entries["Finding Labels"] for word in labels.split("|")}
    assert words <= {*CHESTXRAY14, NO_FINDING}


def test_split_lists_share_no_patient_and_cover_all(phantom: Path, entries: pd.DataFrame) -> None:
    train, test = ((phantom / f"{name}_list.txt").read_text().split() for name in ("train_val", "test"))
    assert sorted(train + test) == sorted(entries["Image Index"])
    assert not {name[:8] for name in train} & {name[:8] for name in test}
    assert 0.1 < len(test) / len(entries) < 0.4


def test_boxes_lie_inside_the_film_and_match_the_labels(phantom: Path, entries: pd.DataFrame) -> None:
    boxes = pd.read_csv(phantom / "BBox_List_2017.csv").iloc[:, :6]
    boxes.columns = pd.Index(["film", "finding", "x", "y", "width", "height"])
    assert (boxes[["x", "y"]] >= 0).all(axis=None)
    assert (boxes[["width", "height"]] > 0).all(axis=None)
    assert (boxes["x"] + boxes["width"] <= 1024.001).all()
    assert (boxes["y"] + boxes["height"] <= 1024.001).all()
    assert "Infiltration" not in set(boxes["finding"])  # NIH's list says Infiltrate
    boxed = {(film, canonical(finding)) for film, finding in zip(boxes["film"], boxes["finding"], strict=True)}
    labelled = {
        (film, word)
        for film, labels in zip(entries["Image Index"], entries["Finding Labels"], strict=True)
        for word in labels.split("|")
        if word != NO_FINDING
    }
    assert boxed == labelled


def test_shuffling_moves_labels_and_boxes_to_other_patients(phantom: Path, tmp_path: Path) -> None:
    write_phantom(tmp_path, films=60, size=SIZE, seed=7, shuffle_labels=True)
    plain, shuffled = files(phantom), files(tmp_path)
    assert [name for name in plain if plain[name] != shuffled[name]] == [
        "BBox_List_2017.csv",
        "Data_Entry_2017_v2020.csv",
    ]
    before, after = (pd.read_csv(f / "Data_Entry_2017_v2020.csv")["Finding Labels"] for f in (phantom, tmp_path))
    assert before.tolist() != after.tolist()
    assert sorted(before) == sorted(after)


@given(st.lists(st.integers(0, 12), min_size=4, max_size=40), st.integers(0, 2**31))
def test_no_film_keeps_a_label_of_its_patient(patients: list[int], seed: int) -> None:
    owner = np.array(patients, dtype=np.int64)
    if 2 * max(Counter(patients).values()) > len(patients):
        with pytest.raises(ValueError, match="films must be enough"):
            other_patients(owner, seed)
        return
    source = other_patients(owner, seed)
    assert sorted(source) == list(range(len(patients)))
    assert not (owner[source] == owner).any()


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 300), st.integers(0, 100))
def test_plans_do_not_depend_on_how_many_are_asked_for(seed: int, films: int, more: int) -> None:
    assert plan_films(films + more, seed)[:films] == plan_films(films, seed)


@pytest.mark.parametrize("seed", [0, 1])
def test_prevalences_suit_a_small_data_set(seed: int) -> None:
    planned = plan_films(1200, seed)
    counts = Counter(finding for film in planned for finding in film.findings)
    assert set(counts) == set(CHESTXRAY14)
    assert all(0.035 < count / len(planned) < 0.16 for count in counts.values())
    assert 0.33 < sum(not film.findings for film in planned) / len(planned) < 0.47
    assert 0.25 < sum(len(film.findings) > 1 for film in planned) / len(planned) < 0.6
    assert 0.25 < sum(film.plan.exposure.view == "AP" for film in planned) / len(planned) < 0.5


def test_a_small_data_set_has_each_finding_on_both_sides_of_the_split() -> None:
    for test in (False, True):
        films = [film for film in plan_films(600, 0) if film.test == test]
        counts = Counter(finding for film in films for finding in film.findings)
        assert all(counts[finding] >= 4 for finding in CHESTXRAY14), counts


def test_patients_keep_their_chest_and_chronic_findings() -> None:
    films = plan_films(400, 3)
    several = [number for number, count in Counter(film.patient for film in films).items() if count > 2]
    assert len(several) > 20
    for patient in several:
        own = [film for film in films if film.patient == patient]
        assert len({film.sex for film in own}) == 1
        assert len({film.plan.anatomy.vessel_seed for film in own}) == 1
        assert len({film.plan.seed for film in own}) == len(own)
        ages = [film.age for film in own]
        assert ages == sorted(ages)
        assert ages[-1] - ages[0] <= len(own)
        for chronic in {"Emphysema", "Fibrosis", "Hernia", "Mass"} & set(own[0].findings):
            assert all(chronic in film.findings for film in own)


def test_no_film_says_a_finding_twice() -> None:
    assert all(len(set(film.findings)) == len(film.findings) for film in plan_films(500, 1))


def test_illnesses_are_spelled_as_findings() -> None:
    assert {finding for _, _, chances in ILLNESSES.values() for finding in chances} == set(CHESTXRAY14)
    assert len(BLOCK) == 40


def test_a_manifest_of_simulated_films_says_so(phantom: Path, tmp_path: Path) -> None:
    films = index_nih(phantom)
    assert set(films.table["source"]) == {"phantom"}
    assert films.notes["source"].startswith("simulated films in")
    shutil.copytree(phantom, tmp_path / "nih")
    (tmp_path / "nih" / "phantom.json").unlink()
    assert set(index_nih(tmp_path / "nih").table["source"]) == {"nih"}


def test_lateral_views_are_drawn_anew_for_each_patient_and_the_same_for_each_seed() -> None:
    views = lateral_views(20, SIZE, seed=5)
    assert all(view.shape == (SIZE, SIZE) and view.dtype == np.float32 for view in views)
    assert all(view.min() >= 0 and view.max() <= 1 and view.std() > 0.02 for view in views)
    assert len({view.tobytes() for view in views}) == 20
    assert np.array_equal(views[3], lateral_views(4, SIZE, seed=5)[3])
    assert not np.array_equal(views[3], lateral_views(4, SIZE, seed=6)[3])


@pytest.mark.parametrize("full", ["a file in it", "the folder is a file"])
def test_a_used_folder_is_refused_and_left_alone(tmp_path: Path, full: str) -> None:
    folder = tmp_path / "data"
    if full == "a file in it":
        folder.mkdir()
        (folder / "thesis.txt").write_text("mine")
    else:
        folder.write_text("mine")
    before = files(tmp_path)
    with pytest.raises(FilmsError, match=r"folder must be new or empty, got .*data"):
        write_phantom(folder, films=2, size=SIZE)
    assert files(tmp_path) == before


@pytest.mark.parametrize(("films", "size", "word"), [(0, 320, "films"), (3, 63, "size"), (3, 2049, "size")])
def test_absurd_requests_are_refused_before_anything_is_written(
    tmp_path: Path, films: int, size: int, word: str
) -> None:
    with pytest.raises(ValueError, match=f"{word} must be"):
        write_phantom(tmp_path / "new", films=films, size=size)
    assert not (tmp_path / "new").exists()


def test_an_interrupted_run_leaves_the_folder_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[FilmPlan] = []

    def interrupted(plan: FilmPlan, size: int) -> tuple[UInt8[np.ndarray, "height width"], list[Box]]:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(plan)
        return render(plan, size)

    monkeypatch.setattr("hilum.phantom.dataset.render", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_phantom(tmp_path, films=9, size=SIZE)
    assert files(tmp_path) == {}
    monkeypatch.undo()
    write_phantom(tmp_path, films=9, size=SIZE)
