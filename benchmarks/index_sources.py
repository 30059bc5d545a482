"""How long `hilum index` takes on data sets of their real size, and how much memory: their tables, and empty images.

CheXpert's and PadChest's tables are the real ones, from the wheel of torchxrayvision; MIMIC-CXR-JPG's has as many rows
of the same form.

    python benchmarks/index_sources.py [--folder /tmp/index_sources] [chexpert] [mimic] [padchest]
"""

import argparse
import csv
import gzip
import resource
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from itertools import islice
from pathlib import Path

from hilum.phantom.layouts import LAYOUTS, Drawn

MIMIC_FILMS = 377_110


def wheel() -> Path:
    """The real tables' folder."""
    found = find_spec("torchxrayvision")
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent / "data"


def make_chexpert(folder: Path) -> None:
    with gzip.open(wheel() / "chexpert_train.csv.gz", "rb") as file:
        (folder / "train.csv").write_bytes(file.read())
    with (folder / "train.csv").open(newline="") as file:
        for row in islice(csv.reader(file), 1, None):
            touch(folder / row[0].partition("/")[2])


def make_mimic(folder: Path) -> None:
    films = [
        Drawn(
            number=number + 1,
            patient=number // 5,
            follow_up=number % 5,
            age=60,
            sex="MF"[number % 2],
            view="PA",
            test=number % 40 == 0,
            findings=[(), ("Edema",), ("Atelectasis", "Effusion"), ("Mass",)][number % 4],
            subtle=("Edema",),
            boxes=(),
            devices=number % 3 == 0,
        )
        for number in range(MIMIC_FILMS)
    ]
    LAYOUTS["mimic"].write(folder, films)
    for film in films:
        touch(folder / LAYOUTS["mimic"].path(film))


def make_padchest(folder: Path) -> None:
    name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz"
    shutil.copy(wheel() / name, folder / name)
    with gzip.open(folder / name, "rt", newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        image, place = header.index("ImageID"), header.index("ImageDir")
        for row in rows:
            touch(folder / "images" / row[place] / row[image])


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


MAKERS = {"chexpert": make_chexpert, "mimic": make_mimic, "padchest": make_padchest}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sources", nargs="*", default=list(MAKERS))
    parser.add_argument("--folder", type=Path, default=Path("/tmp/index_sources"))
    options = parser.parse_args()
    for source in options.sources:
        folder = options.folder / source
        folder.mkdir(parents=True)
        MAKERS[source](folder)
        command = [sys.executable, "-m", "hilum", "index", source, str(folder), "--out", str(folder) + ".parquet"]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        wall = time.monotonic() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        print(f"{source}: {wall:.1f} s, of which {cpu:.1f} s on a processor, {after.ru_maxrss / 2**20:.2f} GB at most")
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
