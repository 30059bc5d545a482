"""Which map finds the boxes: class maps, Grad-CAM at three stages, or CBAM's own spatial gates, beside controls."""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from hilum.data.films import Films, read_films
from hilum.evaluation.localization import boxed_findings, localization_section
from hilum.model.bundle import load_bundle
from hilum.model.engines import Engine, GreyFilms, TorchEngine
from hilum.model.explain import LAST, grad_cam, spatial_gates
from hilum.nn.densenet import DenseNet

MEASURES = ("pointing", "centre", "iou_0.1", "iou_0.25", "iobb_0.1", "iobb_0.25", "iobb_0.5")
STAGES = (LAST, "denseblock3", "denseblock2")

Maps = Callable[[GreyFilms], Float32[np.ndarray, "batch findings rows columns"]]


def maps_of_boxed(engine: Engine, films: Films, maps: Maps) -> dict[str, Float32[np.ndarray, "findings rows columns"]]:
    """The maps of the films with true boxes, by film."""
    names = {box["film"] for box in films.notes.get("boxes", [])}
    rows = [row for row, film in enumerate(films.table["film"]) if film in names]
    read = engine.description.preprocessing.read
    found: dict[str, Float32[np.ndarray, "findings rows columns"]] = {}
    for first in range(0, len(rows), engine.batch):
        here = rows[first : first + engine.batch]
        found |= dict(
            zip(films.table["film"].iloc[here], maps(np.stack([read(films.path(row))[0] for row in here])), strict=True)
        )
    return found


def compare(run: Path, manifest: Path, *, split: str, bootstrap_samples: int) -> dict[str, dict[str, Any]]:
    """Each kind of map's means over findings, as in report.json."""
    bundle, films = load_bundle(run), read_films(manifest).select(split)
    engine, model = TorchEngine(bundle), bundle.model
    if not isinstance(model, DenseNet):
        raise SystemExit(f"the bundle must hold a DenseNet, got {type(model).__name__}")

    def from_grey(compute: Callable[[Tensor], Tensor]) -> Maps:
        channels = bundle.preprocessing.channels
        return lambda grey: compute(torch.from_numpy(grey)[:, None].expand(-1, channels, -1, -1)).numpy()

    def gate(name: str, images: Tensor) -> Tensor:
        with torch.inference_mode():
            return spatial_gates(model, images)[name][:, None].expand(-1, len(bundle.findings), -1, -1)

    kinds: dict[str, Maps] = {"class maps": lambda grey: engine.run(grey).maps}
    kinds |= {f"Grad-CAM, {stage}": from_grey(partial(grad_cam, model, stage=stage)) for stage in STAGES}
    size = model.minimum_size
    blocks = spatial_gates(model, torch.zeros(1, bundle.preprocessing.channels, size, size))
    kinds |= {f"CBAM's gate, {block}": from_grey(partial(gate, block)) for block in blocks}
    means: dict[str, dict[str, Any]] = {}
    for kind, maps in kinds.items():
        boxed = boxed_findings(films, bundle.findings, maps_of_boxed(engine, films, maps))
        section = localization_section(boxed, films.findings, bootstrap_samples=bootstrap_samples, seed=0)
        means[kind] = section["mean"]["model"]
        if kind == "class maps":
            means |= {f"{name}, boxes of the class maps' sizes": section["mean"][name] for name in ("random", "centre")}
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="a bundle")
    parser.add_argument("films", type=Path, help="a manifest whose notes hold boxes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--bootstrap-samples", type=int, default=1000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    means = compare(options.run, options.films, split=options.split, bootstrap_samples=options.bootstrap_samples)
    if options.json:
        print(json.dumps(means))
        return
    print(f"| map | {' | '.join(MEASURES)} |\n|{'---|' * (len(MEASURES) + 1)}")
    for kind, mean in means.items():
        cells = (f"{mean[k]['value']:.3f} [{mean[k]['low']:.3f}, {mean[k]['high']:.3f}]" for k in MEASURES)
        print(f"| {kind} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
