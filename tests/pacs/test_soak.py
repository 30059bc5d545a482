"""Orthanc sends, the node scores, another Orthanc keeps; everything that can fail does, again and again.

All three are killed, the PACS stays away, the node's disk is full, its clock jumps. A long one that prints numbers:
HILUM_SOAK_FILMS=20000 HILUM_SOAK_FAULTS=300 pytest -s tests/pacs/test_soak.py. See docs/experiments.md.
"""

import gc
import os
import random
import signal
import subprocess
import time
import urllib.error
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from dicom_pacs import Orthanc, film, free_port, until, with_orthanc
from fake_node import configured, start_process

from hilum.files import write_whole

FILMS, FAULTS = int(os.environ.get("HILUM_SOAK_FILMS", "20")), int(os.environ.get("HILUM_SOAK_FAULTS", "6"))
_MOST_GROWTH_MB = 150
_DISK_MB = 64
_REFUSED = 2  # so many times a film is refused before a full disk has room again
_JUMPS_S = (0, 86_400, -86_400, 1_800, -300)


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@contextmanager
def small_disk(folder: Path) -> Iterator[tuple[list[str], Path] | None]:
    """A disk of the node's alone: what a command stands behind to see it, and its path from here; None if not root."""
    mount = f"mount -t tmpfs -o size={_DISK_MB}m none {folder}"
    keeper = subprocess.Popen(
        ["unshare", "-m", "sh", "-c", f"{mount} && echo mounted && exec sleep infinity"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert keeper.stdout is not None
    try:
        mounted = keeper.stdout.readline() == b"mounted\n"
        seen = Path(f"/proc/{keeper.pid}/root/{folder}")
        yield (["nsenter", "-t", str(keeper.pid), "-m"], seen) if mounted else None
    finally:
        keeper.kill()
        keeper.wait()
        keeper.stdout.close()


def fill(disk: Path) -> None:
    """Write until nothing more goes onto a disk."""
    with (disk / "filler").open("wb", buffering=0) as file:
        while True:
            try:
                file.write(bytes(1 << 12))
            except OSError:
                return


@pytest.mark.slow
@with_orthanc
def test_every_film_is_accounted_for_and_none_is_doubled(tmp_path: Path) -> None:
    chance, port = random.Random(8), free_port()
    for name in ("source", "target", "node"):
        (tmp_path / name).mkdir()
    source = Orthanc(tmp_path / "source", DicomModalities={"node": ["HILUM", "127.0.0.1", port]})
    target = Orthanc(tmp_path / "target")
    source.start()
    target.start()
    configured(tmp_path, port=port, pacs=target.dicom, receive__callers=["PACS"])
    with small_disk(tmp_path / "node") as disk:
        within, kept = disk if disk is not None else ([], tmp_path / "node")
        clock = tmp_path / "clock"
        clock.write_text("0")
        kinds = ["node", *(["disk"] if disk else []), "target", "clock", "source", "node"]
        process, memory = start_process(tmp_path, port, within=within, clock=clock), list[float]()
        sent = [source.post("/instances", film(tmp_path, number).read_bytes())["ID"] for number in range(FILMS)]
        begun, happened = time.monotonic(), Counter[str]()
        faults = sorted(chance.sample(range(FILMS), min(FAULTS, FILMS - 1)))
        try:
            for place, instance in enumerate(sent):
                if place in faults:
                    kind = kinds[faults.index(place) % len(kinds)]
                    happened[kind] += 1
                    if kind == "node":
                        memory.append(resident_mb(process.pid))
                        process.kill()
                        process.wait()
                        process = start_process(tmp_path, port, within=within, clock=clock)
                    elif kind == "disk":
                        fill(kept)
                    elif kind == "clock":
                        write_whole(clock, str(chance.choice(_JUMPS_S)).encode())
                    elif kind == "source":
                        source.stop(signal.SIGKILL)
                        source.start()
                    elif not target.stopped:
                        target.stop(signal.SIGKILL)
                deliver(source, instance, relief=lambda: (kept / "filler").unlink(missing_ok=True))
                if target.stopped and place % 3 == 0:
                    target.start()
            (kept / "filler").unlink(missing_ok=True)
            if target.stopped:
                target.start()
            until(lambda: len(target.get("/instances")) == 2 * FILMS, seconds=60 * 60)
            seconds = time.monotonic() - begun
            memory.append(resident_mb(process.pid))
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
            made = [target.get(f"/instances/{one}/tags?simplify") for one in target.get("/instances")]
            assert [*(kept / "films").iterdir(), *(kept / "results").iterdir()] == []
        finally:
            process.kill()
            process.wait()
            source.stop()
            target.stop()
    print(
        f"{FILMS} films in {seconds:.0f} s; faults {dict(happened)}; memory {min(memory):.0f} to {max(memory):.0f} MiB"
    )
    assert happened.total() == len(faults)
    of_film: Counter[str] = Counter()
    for one in made:
        if one["Modality"] == "OT":
            of_film[one["SourceImageSequence"][0]["ReferencedSOPInstanceUID"]] += 1
    assert of_film == Counter({f"1.2.3.{number}": 1 for number in range(FILMS)})
    assert len({one["SOPInstanceUID"] for one in made}) == 2 * FILMS
    assert max(memory) - min(memory) < _MOST_GROWTH_MB, memory


def deliver(source: Orthanc, instance: str, *, relief: Callable[[], None]) -> None:
    """Have Orthanc send a film until the node takes it, as Orthanc does not try again by itself; with relief."""
    end, refused = time.monotonic() + 120, 0
    while True:
        try:
            answer = source.post("/modalities/node/store", instance.encode())
            if answer["FailedInstancesCount"] == 0:
                return
        except urllib.error.HTTPError as error:
            error.close()
        refused += 1
        if refused == _REFUSED:
            relief()
        assert time.monotonic() < end, "the node takes no film"
        time.sleep(0.2)


def resident_mb(process: int) -> float:
    """Memory of a process."""
    words = Path(f"/proc/{process}/status").read_text()
    return float(next(line.split()[1] for line in words.splitlines() if line.startswith("VmRSS"))) / 1024
