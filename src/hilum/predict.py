"""From image files to scores, one row per file: a bad file is a row with a reason, and the others go on."""

import glob
import os
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float32

from hilum.bundle import Bundle
from hilum.data.films import Films
from hilum.errors import HilumError, ImageError
from hilum.explain import enlarged, overlay, save_overlay, strength
from hilum.files import unfinished
from hilum.progress import track

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")


@dataclass(frozen=True)
class Scored:
    """One file's scores and class maps, or why it has none.

    Attributes:
        path: the file.
        error: empty if the file was read; then the rest is there.
        image: the network's input, grey in [0, 1].
        scores: sigmoid of the logits, calibrated if the bundle is.
        maps: logits by place; see the network's class_maps.
    """

    path: Path
    error: str
    image: Float32[np.ndarray, "size size"] | None = None
    scores: Float32[np.ndarray, " findings"] | None = None
    maps: Float32[np.ndarray, "findings rows columns"] | None = None


def expand(inputs: Sequence[str]) -> list[Path]:
    """The files that a command line names: files, folders (searched through and through), and glob patterns.

    A named file is taken whatever its suffix; from folders and patterns, images. Each file once, in the order given.

    Raises:
        ImageError: if an input names nothing.
    """
    found: dict[Path, None] = {}
    for name in inputs:
        path = Path(name)
        if path.is_dir():
            files = [Path(root) / file for root, _, names in sorted(os.walk(path)) for file in sorted(names)]
            files = [file for file in files if file.suffix.lower() in SUFFIXES]
        elif path.exists():
            files = [path]
        else:
            files = [Path(match) for match in sorted(glob.glob(name, recursive=True)) if Path(match).is_file()]  # noqa: PTH207 - patterns may be absolute
        if not files:
            raise ImageError(
                f"input must be an image, a folder with images ({', '.join(SUFFIXES)}) or a pattern, got {name!r}, "
                "which names none. Check the spelling."
            )
        found.update(dict.fromkeys(files))
    return list(found)


def score_files(bundle: Bundle, paths: Iterable[Path], *, batch: int = 16) -> Iterator[Scored]:
    """Score files in their order; files are decoded on all cores while the network computes.

    Args:
        batch: films per forward pass. Memory is bounded by a few batches, however many paths there are.
    """
    decoded = _decoded(bundle, paths, ahead=2 * batch)
    while read := list(islice(decoded, batch)):
        good = [scored.image for scored in read if scored.image is not None]
        results = iter(_forward(bundle, np.stack(good)) if good else [])
        for scored in read:
            yield scored if scored.error else Scored(scored.path, "", scored.image, *next(results))


def score_films(bundle: Bundle, films: Films) -> pd.DataFrame:
    """Predictions for every film of a manifest: `film`, then one score column per finding.

    Raises:
        ImageError: at the first film that cannot be read.
    """
    rows = []
    paths = [films.path(row) for row in range(len(films))]
    for scored in track(score_files(bundle, paths), "scoring films", total=len(films)):
        if scored.scores is None:
            raise ImageError(f"{scored.error} Find all such films with: hilum audit films.parquet")
        rows.append(scored.scores)
    table = pd.DataFrame(np.stack(rows), columns=list(bundle.findings))
    table.insert(0, "film", films.table["film"].to_numpy())
    return table


def predict_files(bundle: Bundle, paths: Sequence[Path], *, heatmaps: Path | None = None, top: int = 3) -> pd.DataFrame:
    """Score files: a table of `film`, one score column per finding, and `error` if any file was bad.

    `film` is the file's name, or its whole path where two files have the same name.

    Args:
        heatmaps: folder for each film's `top` overlays; see write_heatmaps.
    """
    names = Counter(path.name for path in paths)
    films = [path.name if names[path.name] == 1 else path.as_posix() for path in paths]
    numbers = np.full((len(paths), len(bundle.findings)), np.nan, dtype=np.float32)
    errors = [""] * len(paths)
    for row, scored in enumerate(track(score_files(bundle, paths), "scoring films", total=len(paths))):
        errors[row] = scored.error
        if scored.scores is not None:
            numbers[row] = scored.scores
        if heatmaps is not None:
            write_heatmaps(bundle, scored, heatmaps, name=films[row].replace("/", "_"), top=top)
    table = pd.DataFrame(numbers, columns=list(bundle.findings))
    table.insert(0, "film", films)
    if any(errors):
        table["error"] = errors
    return table


def check_out(path: Path) -> None:
    """Refuse a place for predictions before any work is done for it.

    Raises:
        HilumError: if the suffix says no known form, or there is a folder of that name.
    """
    if path.suffix not in (".csv", ".json", ".parquet"):
        raise HilumError(f"out must end in .csv, .json or .parquet, got {str(path)!r}")
    if path.is_dir():
        raise HilumError(f"out must be a file, but {path} is a folder")


def write_predictions(table: pd.DataFrame, path: Path) -> None:
    """Write predictions as CSV, JSON (a list of rows) or Parquet, by the suffix.

    Raises:
        HilumError: if the suffix is none of these or the place cannot be written to.
    """
    check_out(path)
    with unfinished(path) as beside:
        match path.suffix:
            case ".csv":
                table.to_csv(beside, index=False, float_format="%.9g")  # nine digits: every float32
            case ".json":
                table.to_json(beside, orient="records", indent=2, double_precision=8)
            case ".parquet":
                table.to_parquet(beside, index=False)


def write_heatmaps(bundle: Bundle, scored: Scored, folder: Path, *, name: str, top: int = 3) -> list[Path]:
    """Write a film's heatmaps for the findings with the highest scores, as NAME.FINDING.png; return their paths.

    The colour says how far a place's evidence goes from the median film's (nothing) to the strongest places of the
    training films (full): the same scale for every film, so a map may be empty.

    Args:
        top: for how many findings.
    """
    if scored.image is None or scored.scores is None or scored.maps is None:
        return []
    ranges = [bundle.heatmap_logits[finding] for finding in bundle.findings]
    film = enlarged(scored.image)
    written = []
    for k in np.argsort(-scored.scores, kind="stable")[:top]:
        finding, score = bundle.findings[k], float(scored.scores[k])
        path = folder / f"{name}.{finding}.png"
        caption = f"{finding}: score {score:.3f}\nResearch software, not a medical device"
        save_overlay(path, overlay(film, strength(scored.maps[k], ranges[k])), caption)
        written.append(path)
    return written


def _forward(
    bundle: Bundle, grey: Float32[np.ndarray, "batch size size"]
) -> Iterator[tuple[Float32[np.ndarray, " findings"], Float32[np.ndarray, "findings rows columns"]]]:
    images = torch.from_numpy(grey)[:, None].expand(-1, bundle.preprocessing.channels, -1, -1)
    with torch.inference_mode():
        logits, maps = bundle.model.class_maps(images.contiguous(memory_format=torch.channels_last))
    return zip(logits.sigmoid().numpy(), maps.numpy(), strict=True)


def _decoded(bundle: Bundle, paths: Iterable[Path], *, ahead: int) -> Iterator[Scored]:
    def read(path: Path) -> Scored:
        try:
            return Scored(path, "", bundle.preprocessing.read(path)[0])
        except ImageError as error:
            return Scored(path, str(error))

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        waiting: deque[Future[Scored]] = deque()
        try:
            for path in paths:
                waiting.append(threads.submit(read, path))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
