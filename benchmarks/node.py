"""What the node keeps of the speed of `hilum predict` on the same films, with the same objects written.

Both take turns in one process. The node also writes to its queue and leaves its objects for a sender; no PACS is there.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from hilum.bench.engines import exported_bundles
from hilum.model.engines import Engine, EngineName, open_engine
from hilum.pacs.config import Dimse, Store
from hilum.pacs.models import Loaded, Models
from hilum.pacs.queue import Places, Queue
from hilum.pacs.results import ResultModel, result_model, write_results
from hilum.pacs.work import Scorer
from hilum.phantom.dataset import write_phantom
from hilum.predict.scoring import score_files

TARGET = 0.9
_CR = "1.2.840.10008.5.1.4.1.1.1"


def as_dicom(png: Path, number: int, folder: Path) -> Path:
    """A phantom film as a CR object."""
    pixels = np.asarray(Image.open(png).convert("L"))
    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = _CR, f"1.2.3.{number}"
    film.StudyInstanceUID, film.SeriesInstanceUID = f"1.2.4.{number}", f"1.2.5.{number}"
    film.Modality, film.PatientID, film.PatientName, film.ViewPosition = "CR", str(number), "Phantom", "PA"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation, film.PixelRepresentation = 1, "MONOCHROME2", 0
    film.BitsAllocated = film.BitsStored = 8
    film.HighBit, film.PixelData = 7, pixels.tobytes()
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path = folder / f"{number}.dcm"
    film.save_as(path, enforce_file_format=True)
    return path


def predict_s(engine: Engine, model: ResultModel, films: list[Path], out: Path) -> float:
    """Seconds that scoring and writing objects takes, as `hilum predict --dicom-out` does it."""
    start = time.perf_counter()
    for scored in score_files(engine, films, force=True):
        write_results(scored.path, scored, model, out, film=scored.path.name, now=datetime.now())
    return time.perf_counter() - start


def node_s(engine: Engine, model: ResultModel, films: list[Path], folder: Path) -> float:
    """Seconds that the node's scorer takes for the same films, which wait in its queue."""
    places = Places(folder)
    queue, models = Queue(folder), Models(places.models)
    models.use((), {"main": Loaded("bench", engine, model, 3, True)})
    to = Dimse(kind="dimse", ae_title="PACS", host="localhost", port=1)
    scorer = Scorer(models, Store(folder=folder, quiet_s=0.0, keep_free_mb=0), [to], places, queue)
    for number, film in enumerate(films):
        shutil.copy(film, places.film(f"1.2.3.{number}"))
        queue.add(f"1.2.3.{number}", f"1.2.4.{number}", now=0.0)
    start = time.perf_counter()
    while scorer.step():
        pass
    seconds = time.perf_counter() - start
    assert queue.counts()["results_waiting"] == 2 * len(films)
    queue.close()
    return seconds


@contextmanager
def films_of(count: int, folder: Path) -> Iterator[list[Path]]:
    """Phantom films as DICOM files."""
    write_phantom(folder / "phantom", films=count, size=1024)
    pngs = sorted((folder / "phantom").rglob("*.png"))[:count]
    yield [as_dicom(png, number, folder) for number, png in enumerate(pngs)]


def main() -> None:
    """Print both speeds and their ratio."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--films", type=int, default=32)
    options.add_argument("--size", type=int, default=512)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--engine", choices=get_args(EngineName), default="openvino")
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        ((*_, run),) = exported_bundles([("am-densenet", asked.engine, "fp32")], asked.size, scratch)
        engine = open_engine(run, engine=asked.engine, precision="fp32")
        model = result_model(run, None, engine=engine)
        with films_of(asked.films, scratch) as films:
            predict_s(engine, model, films[:2], scratch / "warm")
            times: list[tuple[float, float]] = []
            for turn in range(asked.rounds):
                first = predict_s(engine, model, films, scratch / f"out-{turn}")
                times.append((first, node_s(engine, model, films, scratch / f"node-{turn}")))
    ratio = sum(first for first, _ in times) / sum(second for _, second in times)
    predict, node = (asked.films * asked.rounds / sum(column) for column in zip(*times, strict=True))
    print(f"predict {predict:.2f} films/s, node {node:.2f} films/s: {ratio:.0%} of predict's (promised: {TARGET:.0%})")


if __name__ == "__main__":
    main()
