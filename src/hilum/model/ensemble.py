"""Several bundles as one, and a bundle over several views of each film: test-time augmentation."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import torch

from hilum.data.images import Preprocessing
from hilum.errors import BundleError, HilumError
from hilum.findings import resolve
from hilum.model.bundle import Bundle, Origin, load_bundle, save_bundle, weights_sha256
from hilum.nn.build import EnsembleChoices, build
from hilum.nn.ensemble import Average, Ensemble, View
from hilum.recipe import load_recipe, recipe_from_dict

TTA = "tta"
"""The folder in a bundle's own that `hilum predict --tta` writes and uses."""

SHIFTED: tuple[View, ...] = ("plain", "left", "right", "up", "down")


def combine(runs: Sequence[Path], *, average: Average = "logits", tta: bool = False) -> Bundle:
    """One bundle of several: the mean of their logits or scores, each on its own calibration.

    Where some members learned from true boxes, class maps are theirs alone.

    Its findings are those that all members have, by name. It has neither calibration nor thresholds of its own until
    `hilum calibrate`; heatmaps have the members' mean scale.

    Args:
        runs: the members' folders; one is enough for views.
        average: `logits` or `scores`.
        tta: score each film as it is and moved a little four ways; mirrored too, if all members learned from mirrored
            films.

    Raises:
        BundleError: if a folder is no bundle, or the members do not fit each other.
    """
    bundles = [load_bundle(run) for run in runs]
    if not bundles or (len(bundles) < 2 and not tta):
        raise BundleError(f"ensemble must have at least two members, or --tta, got {len(bundles)} without it")
    if any(isinstance(bundle.recipe.architecture, EnsembleChoices) for bundle in bundles):
        raise BundleError("members must be single networks, got an ensemble. Name its members instead")
    preprocessing = _common(bundles, runs)
    first = bundles[0]
    rows = {name: [_row(name, bundle) for bundle in bundles] for name in first.findings}
    findings = tuple(name for name, places in rows.items() if None not in places)
    if not findings:
        raise BundleError("members must share a finding by name, but none is in all of them")
    views: tuple[View, ...] = ("plain",)
    if tta:
        mirrored = all(bundle.recipe.augmentation.flip > 0 for bundle in bundles)
        views = (*SHIFTED, "mirror") if mirrored else SHIFTED
    boxed = [bundle.recipe.loss.boxes > 0 for bundle in bundles]
    shown = boxed if any(boxed) else [True] * len(bundles)
    members = [
        {
            "architecture": bundle.recipe.architecture.model_dump(mode="json"),
            "size": bundle.preprocessing.size,
            "channels": bundle.preprocessing.channels,
            "outputs": len(bundle.findings),
            "rows": [rows[name][number] for name in findings],
            "shown": shown[number],
        }
        for number, bundle in enumerate(bundles)
    ]
    names = " and ".join(bundle.recipe.name for bundle in bundles)
    about = f"The mean of the {average} of {names}" if len(bundles) > 1 else names
    about += f", over {len(views)} views of each film ({', '.join(views)})." if tta else "."
    fields = {
        **load_recipe("imported").to_dict(),
        "name": f"ensemble-of-{len(bundles)}" if len(bundles) > 1 else f"{first.recipe.name}-tta",
        "about": about,
        "source": "Hilum",
        "architecture": {"network": "ensemble", "average": average, "views": views, "members": members},
        "preprocessing": preprocessing.to_dict(),
    }
    recipe = recipe_from_dict(fields, where="the ensemble")
    model = build(recipe.architecture, findings=len(findings), channels=1)
    assert isinstance(model, Ensemble)
    lines = []
    for number, bundle in enumerate(bundles):
        model.members[number].load_state_dict(bundle.model.state_dict())
        own = [rows[name][number] for name in findings]
        lines.append(torch.from_numpy(bundle.description.slopes_and_intercepts())[:, own])
    model.slopes.copy_(torch.stack([line[0] for line in lines]))
    model.intercepts.copy_(torch.stack([line[1] for line in lines]))
    films = {bundle.films for bundle in bundles}
    largest = max(bundles, key=lambda bundle: bundle.preprocessing.size)
    digests = [weights_sha256(bundle) for bundle in bundles]
    return Bundle(
        model=model.eval(),
        findings=findings,
        recipe=recipe,
        films=films.pop() if len(films) == 1 else "",
        heatmap_logits={name: _scale(name, number, rows, bundles, model) for number, name in enumerate(findings)},
        quality_check=largest.quality_check,
        sources=tuple(sorted({source for bundle in bundles for source in bundle.sources})),
        training={"members": ", ".join(f"{bundle.recipe.name} ({run.name})" for bundle, run in _pairs(bundles, runs))},
        origin=Origin(
            model=about,
            file=", ".join(run.name for run in runs),
            sha256=hashlib.sha256("".join(digests).encode()).hexdigest(),
            notes=(
                "each member's logits are brought onto one scale by its own calibration, where it has one",
                "calibration, thresholds and heatmaps of the whole come from hilum calibrate",
            ),
        ),
    )


def with_views(run: Path) -> Path:
    """The folder of a bundle over several views of each film, made in the bundle's own unless it is there and current.

    Raises:
        BundleError: if the folder is no bundle of a single network.
    """
    out, made = run / TTA, combine([run], tta=True)
    if (out / "bundle.json").is_file() and made.origin is not None:
        before = load_bundle(out).origin
        if before is not None and before.sha256 == made.origin.sha256:
            return out
    save_bundle(made, out)
    return out


def _pairs(bundles: Sequence[Bundle], runs: Sequence[Path]) -> list[tuple[Bundle, Path]]:
    return list(zip(bundles, runs, strict=True))


def _common(bundles: Sequence[Bundle], runs: Sequence[Path]) -> Preprocessing:
    """The largest member's preprocessing, grey; a smaller one sees the area mean of that."""
    largest = max((bundle.preprocessing for bundle in bundles), key=lambda one: one.size)
    for bundle, run in _pairs(bundles, runs):
        own = bundle.preprocessing
        for field in ("crop", "shorter", "bits"):
            if getattr(own, field) != getattr(largest, field):
                raise BundleError(
                    f"members must see the same part of a film, but {field} is {getattr(own, field)} in {run} and "
                    f"{getattr(largest, field)} in another"
                )
    return Preprocessing.from_dict({**largest.to_dict(), "channels": 1})


def _row(name: str, bundle: Bundle) -> int | None:
    found = resolve(name, bundle.findings)
    return None if found is None else bundle.findings.index(found)


def _scale(
    name: str, column: int, rows: dict[str, list[int | None]], bundles: Sequence[Bundle], model: Ensemble
) -> tuple[float, float]:
    """The mean scale of heatmaps of the members that are shown, on their common scale of logits."""
    ends = []
    for number, bundle in enumerate(bundles):
        if not model.shown[number]:
            continue
        place = rows[name][number]
        assert place is not None
        slope, intercept = float(model.slopes[number, column]), float(model.intercepts[number, column])
        ends.append([slope * end + intercept for end in bundle.heatmap_logits[bundle.findings[place]]])
    low, high = (sum(values) / len(values) for values in zip(*ends, strict=True))
    if not low < high:
        raise HilumError(f"heatmaps of {name} must have a scale that rises, got {low} to {high}")
    return low, high
