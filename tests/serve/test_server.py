"""What the server answers to films: over real sockets, on loopback."""

import base64
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest
from commands import Hilum
from dicom_files import written
from PIL import Image
from pydicom import dcmread
from servers import ask, png

from hilum.errors import HilumError
from hilum.model.bundle import load_bundle
from hilum.model.engines import TorchEngine
from hilum.pacs.results import scores_of
from hilum.predict.scoring import score_files
from hilum.serve.client import Client
from hilum.serve.schemas import KeptResults, ModelFacts, Prediction
from hilum.serve.server import open_room
from hilum.serve.storage import Kept

DICOM = Path("dicom") / "RG1_J2KI.dcm"


def post(url: str, *files: tuple[str, bytes], **fields: str) -> httpx2.Response:
    return ask("POST", f"{url}/v1/predict", files=[("films", one) for one in files], data=fields)


def packed(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def test_scores_are_those_of_predict(url: str, calling_run: Path, tmp_path: Path) -> None:
    films = {f"{k}.png": png(seed=k, bits=8 if k % 2 else 16) for k in range(5)}
    for name, content in films.items():
        (tmp_path / name).write_bytes(content)
    wanted = score_files(TorchEngine(load_bundle(calling_run)), [tmp_path / name for name in films])
    with Client(url) as room:
        answer = room.predict([tmp_path / name for name in films])
    assert [film.film for film in answer.films] == list(films)
    for film, scored in zip(answer.films, wanted, strict=True):
        assert scored.scores is not None
        np.testing.assert_allclose([one.score for one in film.findings], scored.scores, atol=2e-6)
    assert "not a medical device" in answer.disclaimer


def test_an_archive_is_its_films_and_a_bad_one_is_a_row(url: str) -> None:
    archive = packed({"a/one.png": png(), "a/": b"", "two.txt": b"no film", "../../three.png": png(seed=3)})
    answer = post(url, ("films.zip", archive), ("four.png", png(seed=4))).json()
    assert [film["film"] for film in answer["films"]] == ["one.png", "two.txt", "three.png", "four.png"]
    assert [bool(film["error"]) for film in answer["films"]] == [False, True, False, False]
    assert "PNG, JPEG or DICOM" in answer["films"][1]["error"]


def test_films_of_all_kinds_in_one_request(url: str, tmp_path: Path) -> None:
    grey = np.asarray(Image.open(io.BytesIO(png())))
    kinds = {name: io.BytesIO() for name in ("JPEG", "PNG")}
    for name, file in kinds.items():
        Image.fromarray(grey).save(file, format=name, quality=95)
    dicom = written(tmp_path / "a.dcm", grey.astype(np.uint16) << 4, bits=12).read_bytes()
    films = [("a.jpg", kinds["JPEG"].getvalue()), ("b.png", kinds["PNG"].getvalue()), ("c", dicom)]
    rows = post(url, *films, ("d.zip", packed({"folder/": b"", "folder/\u0444 (1).jpeg": films[0][1]}))).json()["films"]
    assert [row["film"] for row in rows] == ["a.jpg", "b.png", "c", "\u0444 (1).jpeg"]
    assert [row["error"] for row in rows] == [""] * 4
    assert rows[0]["findings"] == rows[3]["findings"]
    scores = np.array([[one["score"] for one in row["findings"]] for row in rows])
    np.testing.assert_allclose(scores[0], scores[1], atol=0.02)  # JPEG loses a little


def test_heatmaps_are_for_findings_that_are_not_absent(url: str) -> None:
    findings = post(url, ("a.png", png()), heatmaps="true").json()["films"][0]["findings"]
    for k, one in enumerate(findings):
        assert one["call"] == ("present" if k % 2 else "absent")
        assert (one["heatmap"] is not None) == (k % 2 == 1)
    shown = Image.open(io.BytesIO(base64.b64decode(findings[1]["heatmap"]["png"])))
    assert (shown.mode, shown.size) == ("RGBA", (128, 128))


def test_regions_are_for_findings_above_their_thresholds(url: str) -> None:
    findings = post(url, ("a.png", png(200)), regions="true").json()["films"][0]["findings"]
    regions = {k: one["region"] for k, one in enumerate(findings) if one["region"] is not None}
    assert regions
    assert all(k % 2 for k in regions)
    assert all(one["heatmap"] is None for one in findings)
    for one in regions.values():
        assert 0 < one["area"] <= 1
        assert all(0 <= number <= 1 for line in one["outlines"] for point in line for number in point)
        assert one["side"] in ("left", "right", "both", "central")
        assert one["zone"] in ("upper", "mid", "lower")


def test_pixels_are_the_film_s(url: str) -> None:
    content = png(bits=16)
    answer = ask("POST", f"{url}/v1/pixels", files={"film": ("a.png", content)})
    rows, columns = int(answer.headers["x-rows"]), int(answer.headers["x-columns"])
    pixels = np.frombuffer(answer.content, "<u2").reshape(rows, columns)
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(content))))
    assert "x-spacing-mm" not in answer.headers
    assert ask("POST", f"{url}/v1/pixels", files={"film": ("a.png", b"no film")}).status_code == 422


def test_a_dicom_film_has_its_spacing(url: str, real_data: Path) -> None:
    film = ("a", (real_data / DICOM).read_bytes())
    answer = ask("POST", f"{url}/v1/pixels", files={"film": film})
    assert answer.status_code == 200
    assert len(answer.content) == int(answer.headers["x-rows"]) * int(answer.headers["x-columns"]) * 2
    assert post(url, film).json()["films"][0]["error"] == ""


def test_a_film_that_does_not_fit_has_no_scores_unless_it_is_forced(url: str, tmp_path: Path) -> None:
    grey = np.asarray(Image.open(io.BytesIO(png(bits=16))))
    film = ("side.dcm", written(tmp_path / "a.dcm", grey, ViewPosition="LL").read_bytes())
    (row,) = post(url, film, heatmaps="true").json()["films"]
    assert row["fit"] == "lateral: the header's View Position is LL"
    assert (row["error"], row["forced"], row["findings"]) == ("", False, [])
    (row,) = post(url, film, heatmaps="true", force="true", keep="true").json()["films"]
    assert (row["fit"], row["forced"], len(row["findings"])) == ("lateral: the header's View Position is LL", True, 14)
    with Client(url) as room:
        assert next(one for one in room.results().results if one.id == row["id"]).forced
        room.delete(row["id"])
        assert room.predict([tmp_path / "a.dcm"], force=True).films[0].forced
        assert not room.predict([tmp_path / "a.dcm"]).films[0].findings
    for force, names in (("false", ["result.sr.dcm"]), ("true", ["result.sc.dcm", "result.sr.dcm"])):
        answer = ask("POST", f"{url}/v1/dicom", files={"film": film}, data={"force": force})
        with zipfile.ZipFile(io.BytesIO(answer.content)) as objects:
            assert sorted(objects.namelist()) == names
            assert bool(scores_of(dcmread(io.BytesIO(objects.read("result.sr.dcm"))))) == (force == "true")
    own = ("own.dcm", written(tmp_path / "b.dcm", grey, Manufacturer="Hilum").read_bytes())
    answer = ask("POST", f"{url}/v1/dicom", files={"film": own})
    assert answer.status_code == 422
    assert "got a result of Hilum" in answer.json()["detail"]


def test_a_dicom_film_s_result_can_be_had_as_dicom(url: str, tmp_path: Path) -> None:
    film = written(tmp_path / "a.dcm", np.asarray(Image.open(io.BytesIO(png(bits=16)))))
    answer = ask("POST", f"{url}/v1/dicom", files={"film": ("a.dcm", film.read_bytes())}, data={"point": "youden"})
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as objects:
        assert objects.namelist() == ["result.sr.dcm", "result.sc.dcm"]
        report = dcmread(io.BytesIO(objects.read("result.sr.dcm")))
    assert (report.Modality, report.StudyInstanceUID) == ("SR", "1.2.3.4")
    refused = ask("POST", f"{url}/v1/dicom", files={"film": ("a.png", png())})
    assert refused.status_code == 422
    assert "'a.png'" in refused.json()["detail"]


def test_results_are_kept_only_if_asked_and_can_be_deleted(url: str, tmp_path: Path) -> None:
    film = tmp_path / "kept.png"
    film.write_bytes(png())
    with Client(url) as room:
        assert room.predict([film]).films[0].id is None
        kept = room.predict([film], keep=True, heatmaps=True).films[0].id
        assert kept is not None
        found = room.results().results
        assert [one.id for one in found] == [kept]
        assert found[0].findings[1].heatmap is None
        assert room.delete(kept).deleted == 1
        with pytest.raises(HilumError, match="404"):
            room.delete(kept)
        assert room.delete().deleted == 0


def test_what_an_earlier_release_kept_is_read_with_today_s_word(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept.db")
    kept.add({"findings": [{"call": "unsure"}]})
    assert kept.all(most=1, after=0)[0]["findings"] == [{"call": "indeterminate"}]


def test_the_model_says_what_it_is(url: str) -> None:
    with Client(url) as room:
        facts = room.model()
    assert facts.name == "tiny"
    assert facts.size == 64
    assert facts.points[0] == "youden"
    assert facts.keeps
    assert facts.findings[2].words == "Fluid in the pleural space."
    assert facts.findings[2].auroc is None


def test_state_counts_and_examples(url: str) -> None:
    assert ask("GET", f"{url}/health").json() == {"status": "ok"}
    assert ask("GET", f"{url}/ready").json() == {"status": "ok"}
    post(url, ("patient-name.png", png()))
    counts = ask("GET", f"{url}/metrics").text
    assert 'hilum_requests_total{route="/v1/predict",status="200"}' in counts
    assert "patient-name" not in counts
    assert "hilum_films_waiting 0" in counts
    film = ask("GET", f"{url}/v1/examples/0")
    assert Image.open(io.BytesIO(film.content)).size == (512, 512)
    assert ask("GET", f"{url}/v1/examples/99").status_code == 404


def test_the_openapi_document_has_examples(url: str) -> None:
    document: dict[str, Any] = ask("GET", f"{url}/openapi.json").json()
    assert "429" in document["paths"]["/v1/predict"]["post"]["responses"]
    for form in (Prediction, ModelFacts, KeptResults):
        [example] = document["components"]["schemas"][form.__name__]["examples"]
        assert form.model_validate(example).model_dump(mode="json", exclude_none=True) == example


def test_films_of_many_requests_share_runs(url: str) -> None:
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda k: post(url, (f"{k}.png", png(seed=k))), range(40)))
    assert [answer.json()["films"][0]["film"] for answer in answers] == [f"{k}.png" for k in range(40)]
    alone = post(url, ("7.png", png(seed=7))).json()["films"][0]["findings"]
    together = answers[7].json()["films"][0]["findings"]
    np.testing.assert_allclose([a["score"] for a in alone], [b["score"] for b in together], atol=2e-6)


def test_a_model_that_is_not_there_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hilum: Hilum) -> None:
    monkeypatch.chdir(tmp_path)
    said = hilum("serve")
    assert said.code == 2
    assert "hilum demo" in said.err
    with pytest.raises(HilumError, match="name must say"):
        open_room(tmp_path, host="0.0.0.0")
