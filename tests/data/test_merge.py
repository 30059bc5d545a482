from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Hilum

from hilum.data.audit import audit
from hilum.data.films import Films, read_films, write_films
from hilum.data.merge import group_of, groups_of, merge
from hilum.data.splits import constant_labels
from hilum.errors import FilmsError


def source_of(
    name: str, findings: tuple[str, ...], root: Path, *, films: int = 6, split: bool = True, **notes: object
) -> Films:
    """Films of one patient each; the first two thirds have the first finding, uncertain in the last of them."""
    rows = range(films)
    table = pd.DataFrame(
        {
            "film": [f"{row}.png" for row in rows],
            "path": [f"{row}.png" for row in rows],
            "source": name,
            "patient": [str(row) for row in rows],
            "study": [str(row) for row in rows],
            "view": "PA",
            "age": np.nan,
            "sex": "unknown",
            "split": pd.Series(["train", "test"] * (films // 2) if split else [None] * films, dtype="str"),
            **{finding: np.float32(0) for finding in findings},
        }
    )
    table[findings[0]] = np.array([1.0] * (films // 2) + [-1.0] + [0.0] * (films - films // 2 - 1), dtype=np.float32)
    table = table.astype(dict.fromkeys(findings, np.float32))
    return Films(table, root, findings, {"source": name, "protocol": "patient" if split else None, **notes})


def test_films_keep_their_folders_and_get_names_that_cannot_collide(tmp_path: Path) -> None:
    nih = source_of("nih", ("Mass", "Effusion"), tmp_path / "a")
    chexpert = source_of("chexpert", ("Pleural Effusion", "Fracture"), tmp_path / "b", only_extremes={"chexpert": []})
    nih.notes["boxes"] = [{"film": "1.png", "finding": "Mass", "x": 0, "y": 0, "width": 1, "height": 1}]
    nih.notes["official"] = {"1.png": "test"}
    nih.notes["problems"] = {"missing": ["9.png"]}
    merged = merge([nih, chexpert])
    assert merged.findings == ("Effusion", "Mass", "Fracture")
    assert merged.table["film"].tolist()[5:7] == ["nih/5.png", "chexpert/0.png"]
    assert merged.table["patient"].tolist()[5:7] == ["nih:5", "chexpert:0"]
    assert merged.path(6) == tmp_path / "b" / "0.png"
    assert merged.table["Mass"].isna().tolist() == [False] * 6 + [True] * 6
    assert merged.table["Effusion"].tolist()[6:] == [1, 1, 1, -1, 0, 0]
    assert merged.notes["boxes"][0]["film"] == "nih/1.png"
    assert merged.notes["official"] == {"nih/1.png": "test"}
    assert merged.notes["problems"] == {"missing": ["nih/9.png"]}
    assert merged.notes["protocol"] == "patient"
    assert merged.notes["merged"] == {"nih": nih.fingerprint(), "chexpert": chexpert.fingerprint()}
    assert groups_of(merged) == {"nih", "chexpert"}
    write_films(merged, tmp_path / "all.parquet")
    assert read_films(tmp_path / "all.parquet").path(6) == merged.path(6)
    assert "merged" not in merged.split("patient").notes


@pytest.mark.parametrize(
    ("chosen", "findings"), [("common", ("Effusion",)), ("union", ("Effusion", "Mass", "Fracture"))]
)
def test_findings_are_chosen(tmp_path: Path, chosen: str, findings: tuple[str, ...]) -> None:
    parts = [source_of("nih", ("Mass", "Effusion"), tmp_path), source_of("brax", ("Effusion", "Fracture"), tmp_path)]
    assert merge(parts, chosen=chosen).findings == findings
    assert len(merge(parts, chosen="nih").findings) == 14
    with pytest.raises(FilmsError, match="vocabulary must be one of union, common, nih, chexpert, got 'all'"):
        merge(parts, chosen="all")


def test_sources_that_share_patients_under_other_names_are_refused(tmp_path: Path) -> None:
    nih, siim = (source_of(name, ("Pneumothorax",), tmp_path, group="nih") for name in ("nih", "siim"))
    with pytest.raises(FilmsError, match=r"got nih and siim, which show the same patients .*--accept-overlap"):
        merge([nih, siim])
    assert len(merge([nih, siim], accept_overlap=True)) == 12
    rsna = source_of("rsna", ("Pneumonia",), tmp_path, group="nih", patients_of="nih")
    merged = merge([nih, rsna])
    assert merged.table["patient"].nunique() == 6  # the same ones
    assert group_of(rsna) == "nih"


def test_splits_that_do_not_fit_are_taken_back(tmp_path: Path) -> None:
    nih = source_of("nih", ("Mass",), tmp_path)
    rsna = source_of("rsna", ("Pneumonia",), tmp_path, group="nih", patients_of="nih")
    rsna = replace(rsna, table=rsna.table.assign(split=["test", "train"] * 3))
    for other in (rsna, source_of("brax", ("Mass",), tmp_path, split=False)):
        merged = merge([nih, other])
        assert merged.table["split"].isna().all()
        assert merged.notes["protocol"] is None
        assert "merged" not in merged.notes


def test_what_cannot_be_merged_is_refused(tmp_path: Path) -> None:
    nih = source_of("nih", ("Mass",), tmp_path)
    with pytest.raises(FilmsError, match="sources must differ, got 'nih' twice"):
        merge([nih, nih])
    with pytest.raises(FilmsError, match="manifests must be at least two"):
        merge([nih])
    merged = merge([nih, source_of("brax", ("Mass",), tmp_path)])
    with pytest.raises(FilmsError, match="manifests must have one source each, got nih, brax in one"):
        merge([merged, source_of("tb", ("Tuberculosis",), tmp_path)])


def test_labels_that_tell_the_source_are_found(tmp_path: Path) -> None:
    one, other = source_of("nih", ("Mass",), tmp_path), source_of("brax", ("Mass",), tmp_path)
    other.table["Mass"] = np.float32(0)
    merged = merge([one, other])
    assert constant_labels(merged, merged.all_labels) == {"Mass": {"brax": False}}
    assert constant_labels(one, one.all_labels) == {}


def test_an_audit_counts_by_source(tmp_path: Path) -> None:
    merged = merge([source_of("nih", ("Mass",), tmp_path), source_of("brax", ("Mass", "Edema"), tmp_path)])
    found = audit(merged, read_files=False)
    assert found.by_source["nih"] == {
        "Mass": {"known": 5, "positive": 3, "uncertain": 1},
        "Edema": {"known": 0, "positive": 0, "uncertain": 0},
    }
    assert "brax: present of known: Mass 3 of 5 and 1 uncertain, Edema 0 of 6" in found.to_text()


def test_phantom_films_of_one_seed_share_their_patients(phantom_layout: Callable[[str], Path], tmp_path: Path) -> None:
    from hilum.data.sources import read_source
    from hilum.data.sources.reading import Options

    parts = [read_source(name, phantom_layout(name), Options())[1] for name in ("chexpert", "brax")]
    with pytest.raises(FilmsError, match="got phantom-chexpert and phantom-brax, which show the same patients"):
        merge(parts)


def test_the_command(hilum: Hilum, tmp_path: Path) -> None:
    for name in ("nih", "brax"):
        write_films(source_of(name, ("Mass",), tmp_path), tmp_path / f"{name}.parquet")
    out = tmp_path / "all.parquet"
    said = hilum("merge", tmp_path / "nih.parquet", tmp_path / "brax.parquet", "--out", out)
    assert said.code == 0, said.err
    assert "The splits are kept: by patient" in said.out + said.err
    assert len(read_films(out)) == 12
