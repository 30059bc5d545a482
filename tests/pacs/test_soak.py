"""Orthanc sends, the node scores, another Orthanc keeps; all three are killed again and again.

A long one: HILUM_SOAK_FILMS=20000 HILUM_SOAK_KILLS=300. See docs/experiments.md.
"""

import gc
import os
import random
import signal
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from dicom_pacs import Orthanc, film, free_port, until, with_orthanc
from fake_node import configured, start_process

FILMS, KILLS = int(os.environ.get("HILUM_SOAK_FILMS", "20")), int(os.environ.get("HILUM_SOAK_KILLS", "4"))
_MOST_GROWTH_MB = 150


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    yield
    gc.collect()


@pytest.mark.slow
@with_orthanc
def test_every_film_is_accounted_for_and_none_is_doubled(tmp_path: Path) -> None:
    chance, port = random.Random(8), free_port()
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    source = Orthanc(tmp_path / "source", DicomModalities={"node": ["HILUM", "127.0.0.1", port]})
    target = Orthanc(tmp_path / "target")
    source.start()
    target.start()
    configured(tmp_path, port=port, pacs=target.dicom, receive__callers=["PACS"])
    process, memory = start_process(tmp_path, port), list[float]()
    wait = [source.post("/instances", film(tmp_path, number).read_bytes())["ID"] for number in range(FILMS)]
    killed: Counter[str] = Counter()
    deaths = sorted(chance.sample(range(FILMS), min(KILLS, FILMS - 1)))
    try:
        for place, instance in enumerate(wait):
            if place in deaths:
                whom = ("node", "target", "source")[deaths.index(place) % 3]
                killed[whom] += 1
                if whom == "node":
                    memory.append(resident_mb(process.pid))
                    process.kill()
                    process.wait()
                    process = start_process(tmp_path, port)
                else:
                    one = source if whom == "source" else target
                    one.stop(signal.SIGKILL)
                    if whom == "source":
                        one.start()
            deliver(source, instance)
            if target.stopped and place % 3 == 0:
                target.start()
        if target.stopped:
            target.start()
        until(lambda: len(target.get("/instances")) == 2 * FILMS, seconds=60 * 60)
        memory.append(resident_mb(process.pid))
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=120) == 0
        made = [target.get(f"/instances/{one}/tags?simplify") for one in target.get("/instances")]
    finally:
        process.kill()
        process.wait()
        source.stop()
        target.stop()
    assert killed.total() == len(deaths)
    of_film: Counter[str] = Counter()
    for one in made:
        if one["Modality"] == "OT":
            of_film[one["SourceImageSequence"][0]["ReferencedSOPInstanceUID"]] += 1
    assert of_film == Counter({f"1.2.3.{number}": 1 for number in range(FILMS)})
    assert len({one["SOPInstanceUID"] for one in made}) == 2 * FILMS
    assert [*(tmp_path / "node" / "films").iterdir(), *(tmp_path / "node" / "results").iterdir()] == []
    assert max(memory) - min(memory) < _MOST_GROWTH_MB, memory


def deliver(source: Orthanc, instance: str) -> None:
    """Have Orthanc send a film until the node takes it; as Orthanc itself does not try again."""
    end = time.monotonic() + 120
    while True:
        try:
            answer = source.post("/modalities/node/store", instance.encode())
            if answer["FailedInstancesCount"] == 0:
                return
        except urllib.error.HTTPError as error:
            error.close()
        assert time.monotonic() < end, "the node takes no film"
        time.sleep(0.2)


def resident_mb(process: int) -> float:
    """Memory of a process."""
    words = Path(f"/proc/{process}/status").read_text()
    return float(next(line.split()[1] for line in words.splitlines() if line.startswith("VmRSS"))) / 1024
