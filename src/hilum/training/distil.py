"""Distillation: what a trained model says of training films becomes what another one learns."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float32
from torch.utils.data import DataLoader

from hilum.data.dataset import packed_films
from hilum.data.films import Films
from hilum.errors import RecipeError
from hilum.findings import resolve
from hilum.messages import messages, track
from hilum.model.bundle import load_bundle

_BATCH = 16


def taught(
    targets: Float32[np.ndarray, "films findings"], films: Films, teacher: Path, *, weight: float, packs: Path
) -> Float32[np.ndarray, "films findings"]:
    """The targets, mixed with a teacher's calibrated scores; of an unknown label the score alone.

    The teacher sees each film once, as it is, in its own preprocessing. Findings that it lacks keep their labels.

    Args:
        targets: 1, 0 or between; NaN unknown.
        films: the films of the rows.
        teacher: folder of a bundle.
        weight: of the teacher where a label is known, in (0, 1].
        packs: folder for the packed films.

    Raises:
        BundleError: if the folder holds no bundle.
        RecipeError: if the teacher has none of the findings.
        ImageError: if a film cannot be read.
    """
    bundle = load_bundle(teacher)
    places = {
        column: bundle.findings.index(own)
        for column, name in enumerate(films.findings)
        if (own := resolve(name, bundle.findings)) is not None
    }
    if not places:
        raise RecipeError(
            f"labels.teacher must have one of {', '.join(films.findings)}, got {', '.join(bundle.findings)}"
        )
    missing = [name for column, name in enumerate(films.findings) if column not in places]
    if missing:
        messages().print(f"The teacher does not know {', '.join(missing)}: learned from labels alone.")
    seen = packed_films(films, bundle.preprocessing, packs)
    model = bundle.model.eval()
    loader = DataLoader(seen, batch_size=_BATCH)
    with torch.inference_mode():
        logits = [model(images).float().numpy() for images, _ in track(loader, "teacher", total=len(loader))]
    scores = bundle.description.scores(np.concatenate(logits))
    mixed = targets.copy()
    for column, place in places.items():
        said, known = scores[:, place], ~np.isnan(targets[:, column])
        mixed[:, column] = np.where(known, (1 - weight) * targets[:, column] + weight * said, said)
    return mixed
