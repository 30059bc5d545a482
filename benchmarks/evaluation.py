"""The whole of `hilum evaluate predictions.csv` at full size: 22,433 films, 14 findings.

All sections of a table of scores are on: subgroups, a second opinion on 2,000 films, and a report on as many other
films, with thresholds, to be set against. Once with the few patients of ChestX-ray14's test list, or as many
simulated, who have most of the films, and once with a patient of its own for every film. Seconds and memory are of the
command as a process of its own; processor seconds depend less on what else runs.

Example: python benchmarks/evaluation.py --json
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from bootstrap import PREVALENCE, official_patients
from jaxtyping import Int

from hilum.data.films import Films, write_films
from hilum.evaluation.evaluate import evaluate_to_folder
from hilum.evaluation.inputs import read_report
from hilum.evaluation.operating_points import operating_section
from hilum.findings import CHESTXRAY14
from hilum.metrics.operating_points import OPERATING_POINTS
from hilum.metrics.thresholds import Threshold
from hilum.model.thresholds import OperatingPoints

MOST_SECONDS, MOST_MIB = 60, 2048

Patients = Int[np.ndarray, " films"]


def write_hospital(folder: Path, name: str, patients: Patients, generator: np.random.Generator) -> Films:
    """Write films.parquet and predictions.csv, named as others name their columns."""
    number = len(patients)
    labels = (generator.random((number, 14)) < PREVALENCE).astype(np.float32)
    logits = generator.normal(-2.0, 1.0, labels.shape) + 1.2 * labels
    films = [f"{name}_{film:08d}.png" for film in range(number)]
    table = pd.DataFrame({"film": films, "path": films, "source": name, "patient": patients.astype(str)})
    table = table.assign(
        study=films,
        view=generator.choice(["AP", "PA"], number),
        age=generator.integers(1, 95, number).astype(np.float64),
        sex=generator.choice(["F", "M"], number),
        split="test",
    )
    table[list(CHESTXRAY14)] = labels
    manifest = Films(table, folder, CHESTXRAY14, {"protocol": "official"})
    folder.mkdir()
    write_films(manifest, folder / "films.parquet")
    scores = pd.DataFrame(1 / (1 + np.exp(-logits)), columns=[f"prob_{finding}" for finding in CHESTXRAY14])
    scores.assign(path=films).to_csv(folder / "predictions.csv", index=False)
    readers = table[["film", "Pneumothorax", "Cardiomegaly"]].iloc[:: max(1, number // 2000)]
    readers.assign(**{"Nodule or mass": generator.integers(0, 2, len(readers))}).to_csv(
        folder / "readers.csv", index=False
    )
    return manifest


def report_elsewhere(folder: Path, patients: Patients, generator: np.random.Generator) -> Path:
    """A report on other films, with thresholds as if it were of a bundle."""
    films = write_hospital(folder, "elsewhere", patients, generator)
    evaluate_to_folder(folder / "predictions.csv", films, folder / "report")
    stored = read_report(folder / "report")
    points = OperatingPoints(
        "", {name: dict.fromkeys(CHESTXRAY14, Threshold(0.3, 0.28, 0.32)) for name in OPERATING_POINTS}
    )
    calls = operating_section(stored.evaluated, points, prevalence={})
    path = folder / "report" / "report.json"
    path.write_text(json.dumps({**stored.content, "operating_points": calls}), encoding="utf-8")
    return folder / "report"


def measure(folder: Path, patients: Patients, generator: np.random.Generator) -> dict[str, Any]:
    """Seconds, processor seconds and peak memory of the command."""
    earlier = report_elsewhere(folder / "elsewhere", patients, generator)
    write_hospital(folder / "here", "here", patients, generator)
    command = [sys.executable, "-m", "hilum", "evaluate", folder / "here" / "predictions.csv"]
    command += ["--films", folder / "here" / "films.parquet", "--out", folder / "report"]
    command += ["--reference", folder / "here" / "readers.csv", "--against", earlier, "--json"]
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "films": len(patients),
        "patients": len(np.unique(patients)),
        "seconds": round(seconds, 1),
        "processor_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_memory_mib": after.ru_maxrss // 1024,
        "most_seconds": MOST_SECONDS,
        "most_mib": MOST_MIB,
    }


def main() -> int:
    """Print seconds and memory; exit code 1 if one of them is above what is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=22_433)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    results = []
    for patients in (official_patients(options.films, generator), np.arange(options.films)):
        with tempfile.TemporaryDirectory() as folder:
            results.append(measure(Path(folder), patients, generator))
    if options.json:
        print(json.dumps(results))
    else:
        for one in results:
            print(
                f"{one['films']} films of {one['patients']} patients, 14 findings: "
                f"{one['seconds']} s (promised {MOST_SECONDS}), {one['processor_seconds']} s of processor, peak memory "
                f"{one['peak_memory_mib']} MiB (promised {MOST_MIB})",
                flush=True,
            )
    return 0 if all(one["seconds"] <= MOST_SECONDS and one["peak_memory_mib"] <= MOST_MIB for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
