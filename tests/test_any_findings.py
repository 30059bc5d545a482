"""Findings that Hilum has never heard of go the whole way, from a table of one's own to FHIR, under their names."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import Hilum
from dicom_files import written
from graphs import traced_once
from pydicom import dcmread
from servers import ask, opened

from hilum.findings import CODES, PRIVATE, codes_of

OWN = {
    "Tuberculosis": ("Infiltration", "Consolidation"),
    "Lung_Opacity": ("Effusion", "Atelectasis", "Pneumonia", "Edema"),
    "Support_Devices": ("Cardiomegaly", "Hernia", "Pneumothorax"),
    "肺结核": ("Nodule", "Mass", "Infiltration"),
    "Épanchement pleural": ("Emphysema", "Pleural_Thickening", "Effusion"),
}
"""Findings of one's own, and the phantom's that stand for them here."""

MAP = """
source = "st-mary"
table = "labels.csv"
film = { column = "file", match = "name" }
patient = "pid"
view = "proj"
age = "age"
sex = "sex"

[values]
present = ["pos"]
absent = ["neg"]
view = { "p.a." = "PA", "a.p." = "AP" }

[labels]
Tuberculosis = "tb"
Lung_Opacity = "opacity"
Support_Devices = "devices"
"肺结核" = "结核"
"Épanchement pleural" = "épanchement"

[boxes]
table = "boxes.csv"
"""


def own_folder(phantom: Path, folder: Path) -> None:
    """Phantom films with a table, boxes and a map of one's own."""
    shutil.copytree(phantom / "images", folder / "pictures")
    with (phantom / "Data_Entry_2017_v2020.csv").open() as file:
        rows = list(csv.reader(file))[1:]
    lines = ["file;pid;proj;age;sex;tb;opacity;devices;结核;épanchement"]
    for name, words, _, patient, age, sex, view, *_ in rows:
        labels = ["pos" if set(words.split("|")) & set(of) else "neg" for of in OWN.values()]
        lines.append(";".join([name.upper(), f"P{patient}", f"{view[0]}.{view[1]}.".lower(), age, sex, *labels]))
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8-sig")
    with (phantom / "BBox_List_2017.csv").open() as file:
        boxes = list(csv.reader(file))[1:]
    lines = ["film,finding,x,y,width,height"]
    for name, finding, *sides in boxes:
        word = {"Infiltrate": "Infiltration"}.get(finding, finding)
        for own, of in OWN.items():
            if word in of:
                lines.append(",".join([name, own.lower(), *(str(float(side) / 16) for side in sides[:4])]))
    (folder / "boxes.csv").write_text("\n".join(lines) + "\n")
    (folder / "map.toml").write_text(MAP)


@pytest.mark.slow
def test_findings_of_anyone_go_the_whole_way(
    phantom_folder: Path, tiny: Path, tmp_path: Path, hilum: Hilum, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*arguments: object) -> Any:
        said = hilum(*arguments, "--json")
        assert said.code == 0, said.err
        return json.loads(said.out)

    names = list(OWN)
    folder, films, run = tmp_path / "st-mary", tmp_path / "films.parquet", tmp_path / "run"
    own_folder(phantom_folder, folder)

    indexed = told("index", "csv", folder, "--map", folder / "map.toml", "--out", films)
    assert (indexed["films"], indexed["missing"], indexed["unlisted"]) == (60, 0, 0)
    splits = told("split", films, "--protocol", "patient", "--fractions", 0.5, 0.2, 0.3)["splits"]
    assert all(f"{name} positives" in splits[0] for name in names)
    audited = told("audit", films)
    assert audited["unreadable"]["count"] == 0
    assert audited["boxes"] > 20
    assert set(names) <= {key.removesuffix(" positives") for key in audited["summary"][0]}

    changed = ["--set", "training.epochs=1", "--set", "protocol=patient"]
    told("train", tiny, "--films", films, "--out", run, *changed)
    assert set(told("calibrate", run, "--films", films)["calibration"]) == set(names)
    assert told("info", run)["findings"] == names

    scores = tmp_path / "scores.csv"
    told("predict", run, folder / "pictures", "--out", scores)
    assert list(pd.read_csv(scores).columns)[: len(names) + 1] == ["film", *names]
    film = pd.read_csv(scores)["film"][0]
    told("predict", run, folder / "pictures" / film, "--heatmaps", tmp_path / "heat", "--top", len(names))
    assert {path.name for path in (tmp_path / "heat").iterdir()} == {f"{film}.{name}.png" for name in names}

    check_reports(told, tmp_path, folder, films, run, scores)
    monkeypatch.chdir(tmp_path)
    with traced_once():
        check_exports(told, tmp_path, folder, run)
    check_service(run, folder / "pictures" / film, names)
    check_results(told, tmp_path, run, names)


def check_reports(told: Callable[..., Any], place: Path, folder: Path, films: Path, run: Path, scores: Path) -> None:
    """Evaluate the bundle and its table of scores, by other labels, against another report, and compare."""
    names, asked = list(OWN), ("--films", films, "--draws", 100)
    reference = place / "reader.csv"
    table = pd.read_parquet(films)
    other = table[["film", *names]].rename(columns={"Lung_Opacity": "lung opacity", "Tuberculosis": "TUBERCULOSIS"})
    other.assign(Fracture=0.0).to_csv(reference, index=False)
    report = told("evaluate", run, *asked, "--out", place / "report", "--reference", reference)
    assert list(report["findings"]) == names
    assert report["not_judged"] == []
    assert list(report["reference"]["findings"]) == names
    assert list(report["reference"]["not_compared"]) == ["Fracture"]
    assert set(report["localization"]["findings"]) <= set(names)
    assert {"Tuberculosis", "肺结核"} <= set(report["localization"]["findings"])
    assert set(report["operating_points"]["youden"]) == set(names)
    page = (place / "report" / "report.html").read_text()
    assert all(name.replace("_", " ") in page for name in names)
    with (place / "report" / "predictions.csv").open(encoding="utf-8") as file:
        assert next(csv.reader(file)) == ["film", *names]

    theirs = pd.read_csv(scores)
    theirs = theirs.rename(columns={name: f"prob_{name.replace('_', ' ').upper()}" for name in names})
    theirs.to_csv(place / "theirs.csv", index=False)
    again = told("evaluate", place / "theirs.csv", *asked, "--allow-unknown", "--out", place / "again")
    for name in names:
        assert again["findings"][name]["auroc"]["value"] == pytest.approx(
            report["findings"][name]["auroc"]["value"], abs=1e-6
        )
    compared = told("compare", place / "report", place / "again", "--draws", 100, "--out", place / "comparison")
    assert list(compared["differences"][0]["findings"]) == names
    assert compared["not_compared"] == []
    shift = told(
        "evaluate",
        run,
        *asked,
        "--split",
        "train",
        "--against",
        place / "report",
        "--out",
        place / "shift",
        "--no-gallery",
    )
    assert set(names) <= set(json.dumps(shift["shift"], ensure_ascii=False).replace('"', "\0").split("\0"))


def check_exports(told: Callable[..., Any], place: Path, folder: Path, run: Path) -> None:
    """Exports score as the bundle does, under the same names, and refuse another order."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("openvino")
    films = sorted((folder / "pictures").iterdir())[:3]
    wanted = pd.DataFrame(told("predict", run, *films, "--engine", "torch"))
    for engine in ("onnx", "openvino"):
        out = place / f"{engine}-alone"
        told("export", run, "--to", engine, "--out", out)
        rows = pd.DataFrame(told("predict", out, *films))
        for name in OWN:
            np.testing.assert_allclose(rows[name], wanted[name], atol=2e-4)
        described = json.loads((out / "export.json").read_text())
        described["findings"].reverse()
        (out / "export.json").write_text(json.dumps(described))
        with pytest.raises(AssertionError, match="in their order"):
            told("predict", out, *films)


def check_service(run: Path, film: Path, names: list[str]) -> None:
    """The viewer's server answers by these names, and its page is there."""
    with opened(run) as room:
        sent = {"films": (film.name, film.read_bytes())}
        answer = ask(
            "POST", f"{room.url}/v1/predict", files=[("films", sent["films"])], data={"heatmaps": "true"}
        ).json()
        facts = ask("GET", f"{room.url}/v1/model").json()
        assert ask("GET", f"{room.url}/metrics").status_code == 200
        assert ask("GET", room.url).status_code == 200
    assert [one["finding"] for one in answer["films"][0]["findings"]] == names
    assert [one["finding"] for one in facts["findings"]] == names


def check_results(told: Callable[..., Any], place: Path, run: Path, names: list[str]) -> None:
    """A structured report, a picture and a FHIR bundle, read back by other libraries."""
    from fhir.resources.bundle import Bundle
    from highdicom.sr import srread

    from hilum.pacs.results import scores_of

    pixels = np.random.default_rng(0).integers(0, 4096, (90, 80)).astype(np.uint16)
    film, out = written(place / "film.dcm", pixels, bits=12), place / "results"
    description = json.loads((run / "bundle.json").read_text())
    gated = description["gate"]
    description["gate"] = None  # so that noise has a result
    (run / "bundle.json").write_text(json.dumps(description))
    (row,) = told("predict", run, film, "--engine", "torch", "--dicom-out", out, "--fhir", out, "--calls", "youden")
    (run / "bundle.json").write_text(json.dumps({**description, "gate": gated}))

    report = dcmread(out / "film.dcm.sr.dcm")
    assert report.SpecificCharacterSet == "ISO_IR 192"
    said = scores_of(report)
    assert list(said) == names
    assert all(np.float32(said[name][0]) == np.float32(row[name]) for name in names)
    content_of: Any = srread(out / "film.dcm.sr.dcm").content
    groups = content_of.get_image_measurement_groups()
    codes = [group.finding_type for group in groups]
    assert [code.meaning for code in codes] == [code.meaning for code, *_ in codes_of(tuple(names)).values()]
    assert all(code.scheme_designator == PRIVATE and len(code.value) <= 16 for code in codes)
    assert len({code.value for code in codes}) == len(names)
    assert not {code.value for code in codes} & {code.value for code in CODES.values()}

    picture = dcmread(out / "film.dcm.sc.dcm")
    assert picture.SpecificCharacterSet == "ISO_IR 192"
    assert "肺结核" in str(picture.ImageComments)

    content = json.loads((out / "film.dcm.fhir.json").read_text())
    Bundle.model_validate(content)
    coded = [one["resource"]["code"] for one in content["entry"] if one["resource"]["resourceType"] == "Observation"]
    assert [one["text"] for one in coded] == [code.meaning for code, *_ in codes_of(tuple(names)).values()]
    assert all(one["coding"][0]["system"] == "urn:hilum:findings" for one in coded)
