"""How much of a test film the regions of called findings outline: python benchmarks/regions.py RUN FILMS POINT."""

import sys
from pathlib import Path

import numpy as np

from hilum.data.films import read_films
from hilum.model.engines import open_engine
from hilum.predict.heatmaps import region_of
from hilum.predict.scoring import score_files


def main(run: Path, manifest: Path, point: str) -> None:
    """Print the median area of the regions of findings whose score reaches the threshold."""
    engine, films = open_engine(run), read_films(manifest).select("test")
    description = engine.description
    limits = description.call_thresholds(point, where=run)
    areas, called = [], 0
    for scored in score_files(engine, [films.path(row) for row in range(len(films))]):
        if scored.scores is None or scored.maps is None:
            continue
        for k, finding in enumerate(description.findings):
            limit, score = limits[k], float(scored.scores[k])
            if limit is None or score < limit.value:
                continue
            called += 1
            found = region_of(scored.maps[k], description, finding, score, limit)
            if found is not None:
                areas.append(found.area)
    low, middle, high = np.quantile(areas, (0.1, 0.5, 0.9))
    print(
        f"{len(areas)} regions of {called} called findings: "
        f"median area {middle:.3f}, 10 to 90 % {low:.3f} to {high:.3f}"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
