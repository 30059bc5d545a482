"""2,000 patient-clustered bootstrap samples for 14 findings and 25,596 films, against scikit-learn in a loop.

The patients are those of NIH's official test list where HILUM_REAL_DATA names a folder with it, else about as many are
simulated; then a second time with a patient of its own for every film. scikit-learn runs on the films of the same
draws, for the first few of them, and its time is extrapolated.

Example: python benchmarks/bootstrap.py --json
"""

import argparse
import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from sklearn.metrics import roc_auc_score

from hilum.metrics.bootstrap import bootstrap, patient_counts

PREVALENCE = (0.128, 0.042, 0.182, 0.239, 0.068, 0.063, 0.022, 0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.0034)
"""Of the 14 findings in ChestX-ray14's official test split, roughly."""

TARGET = 100


Table = Float64[np.ndarray, "films findings"]
Patients = Int[np.ndarray, " films"]


def official_patients(films: int, generator: np.random.Generator) -> Patients:
    """Whose film each film of the official test split is, or a simulation in which a few patients own most films."""
    listed = Path(os.environ.get("HILUM_REAL_DATA", "../shared")) / "nih" / "test_list.txt"
    if listed.is_file():
        return np.array([int(name[:8]) for name in listed.read_text(encoding="utf-8").split()])[:films]
    patients = -(-films // 9)
    share = generator.pareto(1.0, patients) + 0.1
    return np.concatenate([np.arange(patients), generator.choice(patients, films - patients, p=share / share.sum())])


def scored(films: int, generator: np.random.Generator) -> tuple[Table, Table]:
    """Scores and labels of as many films."""
    labels = (generator.random((films, len(PREVALENCE))) < PREVALENCE).astype(np.float64)
    return generator.random(labels.shape) + 0.3 * labels, labels


def measure(
    patients: Patients, generator: np.random.Generator, *, bootstrap_samples: int, reference_draws: int
) -> dict[str, Any]:
    """Seconds of both, their ratio, and the largest difference of the values of the reference's draws."""
    scores, labels = scored(len(patients), generator)
    names, codes = np.unique(patients, return_inverse=True)
    start = time.perf_counter()
    ours = bootstrap(scores, labels, patients, bootstrap_samples=bootstrap_samples, seed=0).auroc
    seconds = time.perf_counter() - start
    counts = next(patient_counts(len(names), bootstrap_samples=bootstrap_samples, seed=0, chunk=reference_draws))
    largest_difference, start, outside = 0.0, time.perf_counter(), 0.0
    for draw in range(reference_draws):
        pause = time.perf_counter()
        drawn = np.repeat(np.arange(len(patients)), counts[codes, draw].astype(np.int64))
        resampled_scores, resampled_labels = scores[drawn].T.copy(), labels[drawn].T.copy()
        outside += time.perf_counter() - pause
        for finding in range(len(PREVALENCE)):
            theirs = roc_auc_score(resampled_labels[finding], resampled_scores[finding])
            largest_difference = max(largest_difference, abs(theirs - ours[draw, finding]))
    reference_seconds = (time.perf_counter() - start - outside) * bootstrap_samples / reference_draws
    return {
        "films": len(patients),
        "patients": len(names),
        "draws": bootstrap_samples,
        "seconds": round(seconds, 3),
        "reference_seconds": round(reference_seconds, 1),
        "ratio": round(reference_seconds / seconds, 1),
        "target": TARGET,
        "largest_difference": largest_difference,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main() -> int:
    """Print the ratios; exit code 1 if one of them or the equality misses the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=25_596)
    parser.add_argument("--bootstrap-samples", type=int, default=2_000)
    parser.add_argument(
        "--reference-draws", type=int, default=4, help="draws that scikit-learn does before extrapolation"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    results = [
        measure(
            patients, generator, bootstrap_samples=options.bootstrap_samples, reference_draws=options.reference_draws
        )
        for patients in (official_patients(options.films, generator), np.arange(options.films))
    ]
    if options.json:
        print(json.dumps(results))
    else:
        for result in results:
            print(
                f"{result['draws']} bootstrap samples, {len(PREVALENCE)} findings, {result['films']} films of "
                f"{result['patients']} patients: hilum (with average precision) {result['seconds']:.2f} s, "
                f"scikit-learn {result['reference_seconds']:.0f} s (from {options.reference_draws} draws), ratio "
                f"{result['ratio']} (target {TARGET}), largest difference {result['largest_difference']:.1e}, peak "
                f"memory {result['peak_memory_mib']} MiB"
            )
    return 0 if all(one["ratio"] >= TARGET and one["largest_difference"] <= 1e-12 for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
