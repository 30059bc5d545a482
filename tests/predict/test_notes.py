"""Scores that come with a note: a doubt about depth, a second film under one identifier, a result that cannot be."""

import json
from pathlib import Path

import numpy as np
import pytest
from commands import Hilum
from dicom_files import written
from PIL import Image

from hilum.batch import Asked, Counts, Instances, predict_to_file

PIXELS = np.random.default_rng(0).integers(0, 4096, (70, 66)).astype(np.uint16)


def test_an_identifier_names_one_film() -> None:
    instances = Instances()
    assert instances.clash("1.2.3 aa", "a.dcm") == ""
    assert instances.clash("1.2.3 aa", "copy.dcm") == ""
    assert instances.clash("", "a.png") == instances.clash("", "b.png") == ""
    assert "got 1.2.3 in 'b.dcm', which 'a.dcm' has with other pixels" in instances.clash("1.2.3 bb", "b.dcm")


@pytest.mark.parametrize("bits", [None, 12])
def test_notes_keep_the_scores(untrained_run: Path, tmp_path: Path, bits: int | None) -> None:
    films = tmp_path / "films"
    films.mkdir()
    written(films / "a.dcm", PIXELS, bits=12, SOPInstanceUID="1.2.3")
    written(films / "b.dcm", PIXELS[::-1].copy(), bits=12, SOPInstanceUID="1.2.3")
    zero = written(films / "zero.dcm", PIXELS, bits=12, SOPInstanceUID="1.2.4", StudyInstanceUID="1.2.93")
    zero.write_bytes(zero.read_bytes().replace(b"1.2.93", b"1.2.03"))
    Image.fromarray(np.rint(PIXELS * (65535 / 4095)).astype(np.uint16)).save(films / "full.png")
    Image.fromarray(PIXELS).save(films / "half.png")
    asked = Asked(untrained_run, (str(films),), engine="torch", dicom=tmp_path / "out", bits=bits)
    counts = predict_to_file(asked, tmp_path / "p.json")
    a, b, full, half, zeroed = json.loads((tmp_path / "p.json").read_text())
    assert a["error"] == ""
    assert "'a.dcm' has with other pixels" in b["error"]
    assert "1.2.03" in zeroed["error"]
    assert "no part with a leading zero" in zeroed["error"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.dcm.sc.dcm", "a.dcm.sr.dcm"]
    names = [name for name in a if name not in ("film", "fit", "error")]
    assert all(isinstance(row[name], float) for row in (a, b, zeroed) for name in names)
    if bits is None:
        assert counts == Counts(5, 0, 3, 1)
        assert {half[name] for name in names} == {None}
        assert "got a PNG in" in full["error"]
        assert "no study to put a report into" in full["error"]
        assert half["fit"].startswith("under-exposed: of its 16 bits the highest 4 are never used")
        assert half["error"] == ""
        assert a["fit"] == ""
        assert [full[name] for name in names] == pytest.approx([a[name] for name in names], abs=1e-5)
    else:
        assert counts == Counts(5, 1, 3)
        assert "values of 0 to 4095 as --bits 12 says" in full["error"]
        assert full[names[0]] is None
        assert [half[name] for name in names] == pytest.approx([a[name] for name in names], abs=1e-5)


def test_the_command_line_says_notes_and_what_is_left_out(hilum: Hilum, untrained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    Image.fromarray(PIXELS).save(tmp_path / "films" / "half.png")
    (tmp_path / "films" / "README.TXT").write_text("none")
    command = ("predict", untrained_run, tmp_path / "films", "--engine", "torch", "--out", tmp_path / "p.csv")
    said = hilum(*command, "--bits", 12)
    assert said.code == 0
    assert "Left out 1 file" in said.err
    assert "under-exposed" not in (tmp_path / "p.csv").read_text()
    assert hilum(*command).code == 0
    assert "say --bits 12" in (tmp_path / "p.csv").read_text()
