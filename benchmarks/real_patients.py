"""How often an AUROC's interval holds among the real patients of ChestX-ray14's official test list.

Films, patients and labels are real: few patients have most films. Scores are simulated: normal, half of their variance
shared by a patient's films, with a known AUROC. Each set is of so many patients, drawn without their being repeated.

Example: python benchmarks/real_patients.py --nih /data/nih --sets 300 --json
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import ndtri

from hilum.metrics.influence import measured_auroc

FINDINGS = ("Hernia", "Pneumonia", "Cardiomegaly", "Effusion")
SHARED = 0.5
"""Of a score's variance, the part that a patient's films have in common."""


def cells(nih: Path, *, sets: int, patients: tuple[int, ...], seed: int) -> list[dict[str, Any]]:
    """For each number of patients, finding and AUROC: the coverage, where there is an interval."""
    table = pd.read_csv(nih / "Data_Entry_2017_v2020.csv")
    listed = set((nih / "test_list.txt").read_text().split())
    table = table[table["Image Index"].isin(listed)]
    of_film = table["Patient ID"].to_numpy()
    films = {person: np.flatnonzero(of_film == person) for person in np.unique(of_film)}
    labels = {name: table["Finding Labels"].str.contains(name).to_numpy(dtype=np.float64) for name in FINDINGS}
    generator, found = np.random.default_rng(seed), []
    for number in patients:
        for name, label in labels.items():
            for truth in (0.72, 0.93):
                held, effective = [], []
                for _ in range(sets):
                    drawn = [films[person] for person in generator.choice([*films], number, replace=False)]
                    codes = np.repeat(np.arange(number), [len(rows) for rows in drawn])
                    present = label[np.concatenate(drawn)]
                    own = generator.normal(size=len(codes)) * math.sqrt(1 - SHARED)
                    own += generator.normal(size=number)[codes] * math.sqrt(SHARED)
                    measured = measured_auroc(own + math.sqrt(2) * ndtri(truth) * present, present, codes, number)
                    if measured.why or math.isnan(measured.value):
                        continue
                    low, high = measured.interval()
                    held.append(low <= truth <= high)
                    effective.append(measured.effective)
                found.append(
                    {
                        "patients": number,
                        "finding": name,
                        "auroc": truth,
                        "with_interval": len(held) / sets,
                        "covers": float(np.mean(held)) if held else None,
                        "effective_patients": float(np.mean(effective)) if effective else None,
                    }
                )
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nih", type=Path, required=True, help="folder with NIH's entries and test_list.txt")
    parser.add_argument("--sets", type=int, default=150, help="data sets a cell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    found = cells(asked.nih, sets=asked.sets, patients=(275, 1000), seed=asked.seed)
    print(json.dumps(found, indent=2) if asked.json else pd.DataFrame(found).to_string(index=False))


if __name__ == "__main__":
    main()
