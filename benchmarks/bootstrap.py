"""2,000 patient-clustered draws for 14 findings and 25,596 films, against scikit-learn's roc_auc_score in a loop.

scikit-learn runs on the films of the same draws, for the first few of them, and its time is extrapolated.

Example: python benchmarks/bootstrap.py --json
"""

import argparse
import json
import resource
import sys
import time

import numpy as np
from jaxtyping import Float64, Int
from sklearn.metrics import roc_auc_score

from hilum.metrics.bootstrap import bootstrap, patient_counts

PREVALENCE = (0.128, 0.042, 0.182, 0.239, 0.068, 0.063, 0.022, 0.104, 0.071, 0.036, 0.043, 0.017, 0.045, 0.0034)
"""Of the 14 findings in ChestX-ray14's official test split, roughly."""

TARGET = 100


def films_of_patients(
    films: int, patients: int, generator: np.random.Generator
) -> tuple[Float64[np.ndarray, "films findings"], Float64[np.ndarray, "films findings"], Int[np.ndarray, " films"]]:
    """Scores, labels and patients; a few patients own most of the films, as in the official test split."""
    share = generator.pareto(1.0, patients) + 0.1
    more = generator.choice(patients, films - patients, p=share / share.sum())
    labels = (generator.random((films, len(PREVALENCE))) < PREVALENCE).astype(np.float64)
    scores = generator.random(labels.shape) + 0.3 * labels
    return scores, labels, np.concatenate([np.arange(patients), more])


def main() -> int:
    """Print the ratio; exit code 1 if it or the equality misses the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--films", type=int, default=25_596)
    parser.add_argument("--patients", type=int, default=2_797)
    parser.add_argument("--draws", type=int, default=2_000)
    parser.add_argument(
        "--reference-draws", type=int, default=4, help="draws that scikit-learn does before extrapolation"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    scores, labels, patients = films_of_patients(options.films, options.patients, np.random.default_rng(0))

    start = time.perf_counter()
    ours = bootstrap(scores, labels, patients, draws=options.draws, seed=0).auroc
    seconds = time.perf_counter() - start

    counts = next(patient_counts(options.patients, draws=options.draws, seed=0, chunk=options.reference_draws))
    largest_difference, start, outside = 0.0, time.perf_counter(), 0.0
    for draw in range(options.reference_draws):
        pause = time.perf_counter()
        drawn = np.repeat(np.arange(options.films), counts[patients, draw].astype(np.int64))
        resampled_scores, resampled_labels = scores[drawn].T.copy(), labels[drawn].T.copy()
        outside += time.perf_counter() - pause
        for finding in range(len(PREVALENCE)):
            theirs = roc_auc_score(resampled_labels[finding], resampled_scores[finding])
            largest_difference = max(largest_difference, abs(theirs - ours[draw, finding]))
    reference_seconds = (time.perf_counter() - start - outside) * options.draws / options.reference_draws

    result = {
        "films": options.films,
        "patients": options.patients,
        "draws": options.draws,
        "seconds": round(seconds, 3),
        "reference_seconds": round(reference_seconds, 1),
        "ratio": round(reference_seconds / seconds, 1),
        "target": TARGET,
        "largest_difference": largest_difference,
        "peak_memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    if options.json:
        print(json.dumps(result))
    else:
        print(
            f"{options.draws} draws, {len(PREVALENCE)} findings, {options.films} films of {options.patients} patients"
        )
        print(f"hilum (AUROC and average precision): {seconds:.2f} s, peak memory {result['peak_memory_mib']} MiB")
        print(f"scikit-learn (AUROC only), from {options.reference_draws} draws: {reference_seconds:.0f} s")
        print(f"ratio {result['ratio']} (target {TARGET}), largest difference {largest_difference:.1e}")
    return 0 if result["ratio"] >= TARGET and largest_difference <= 1e-12 else 1


if __name__ == "__main__":
    sys.exit(main())
