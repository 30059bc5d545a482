"""Validators take what is made of varied films: dciodvfy, dsrdump and highdicom's readers.

Of more films: HILUM_VARIED_FILMS=200 pytest -s tests/pacs/test_validators.py
"""

import os
import shutil
import subprocess
from collections import Counter
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fake_node import model_with_calls
from highdicom.seg import segread
from highdicom.sr import srread
from varied_films import varied_film

from hilum.data.images import Preprocessing, read_grey
from hilum.files import write_whole
from hilum.pacs.reading import Opinion, reading_file
from hilum.pacs.results import encoded, read_header, write_results
from hilum.pacs.segmentation import heat_segmentation
from hilum.predict.scoring import Scored

FILMS = int(os.environ.get("HILUM_VARIED_FILMS", "5"))
NOON = datetime(2026, 1, 2, 12, 30)
MODEL = model_with_calls()
absent = [tool for tool in ("dciodvfy", "dsrdump") if not shutil.which(tool)]


def objects(film: Path, number: int, folder: Path) -> list[Path]:
    """All kinds of objects of a film; every fifth does not fit, every seventh is scored although it does not."""
    chance = np.random.default_rng(number)
    unfit, forced = number % 5 == 4, number % 7 == 6
    fit = "lateral: the header's View Position is LL" if unfit or forced else "ok"
    scores, maps = chance.random(14, dtype=np.float32), chance.random((14, 4, 4), dtype=np.float32)
    scored = Scored(film, "", Preprocessing(64).grey(read_grey(film)), scores, maps, fit, forced=forced)
    made = write_results(film, scored, MODEL, folder, film=str(number), now=NOON)
    if scored.analysed:
        heat = heat_segmentation(read_header(film), scored, MODEL, now=NOON)
        if heat is not None:
            made.append(folder / f"{number}.seg.dcm")
            write_whole(made[-1], encoded(heat, film))
        said = {name: Opinion(bool(chance.integers(2)), "a note", "absent") for name in ("Mass", "Hernia")}
        made.append(folder / f"{number}.reading.sr.dcm")
        write_whole(made[-1], reading_file(film, said, MODEL, reader="Test^Reader", now=NOON))
    return made


@pytest.mark.skipif(bool(absent), reason=f"{', '.join(absent)} not here: apt-get install dicom3tools dcmtk")
def test_validators_find_no_error_beside_varied_films(tmp_path: Path) -> None:
    faults, warnings, kinds = Counter[str](), Counter[str](), Counter[str]()
    for number in range(FILMS):
        film = varied_film(tmp_path, number)
        for path in objects(film, number, tmp_path):
            kind = path.name.split(".", 1)[1]
            kinds[kind] += 1
            said = subprocess.run(["dciodvfy", "-new", path], capture_output=True, text=True, check=False)
            lines = (said.stdout + said.stderr).splitlines()
            faults.update(f"{kind} of film {number}: {line}" for line in lines if line.startswith("Error"))
            warnings.update(f"{kind}: {line}" for line in lines if line.startswith("Warning"))
            if kind.endswith("sr.dcm"):
                said = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=False)
                faults.update(f"{kind} of film {number}: {line}" for line in said.stderr.splitlines() if "E: " in line)
                srread(path)
            elif kind == "seg.dcm":
                segread(path)
            path.unlink()
        film.unlink()
    print(f"{dict(kinds)}; warnings: {warnings.most_common(12)}")
    assert not faults, faults
