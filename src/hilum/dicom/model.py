"""What results say of the model that made them."""

from dataclasses import dataclass
from pathlib import Path

import hilum
from hilum.description import BUNDLE_JSON, Description, read_bundle_json, read_description
from hilum.engines import is_export
from hilum.errors import HilumError
from hilum.exported import file_sha256, read_exported
from hilum.metrics.thresholds import Threshold
from hilum.operating import NO_THRESHOLD, call


@dataclass(frozen=True)
class ResultModel:
    """A model as results name it.

    Attributes:
        name: Hilum and the recipe.
        bundle_sha256: of bundle.json, which vouches for the weights.
        point: the operating point of the calls; none if None.
    """

    name: str
    bundle_sha256: str
    description: Description
    point: str | None

    @property
    def version(self) -> str:
        """Hilum's version and the start of the bundle's hash."""
        return f"{hilum.__version__}+{self.bundle_sha256[:12]}"

    @property
    def parameters(self) -> list[str]:
        """What else must be known to repeat a result."""
        return [
            f"bundle.json SHA-256 {self.bundle_sha256}",
            f"scores {'are not calibrated' if self.description.calibration is None else 'are calibrated'}",
            f"calls at {self.point}" if self.point else "no calls",
        ]

    def threshold(self, finding: str) -> Threshold | None:
        """Where the call of a finding changes; None without calls, or where validation did not show a threshold."""
        points = self.description.thresholds
        return None if points is None or self.point is None else points.thresholds(self.point)[finding]

    def call(self, finding: str, score: float) -> str:
        """Present, unsure or absent; empty where there is no threshold."""
        word = call(score, self.threshold(finding))
        return "" if word == NO_THRESHOLD else word


def result_model(run: Path, point: str | None) -> ResultModel:
    """What results say of the model in a folder, a bundle or an exported model alone.

    Raises:
        BundleError: if the folder holds neither.
        HilumError: if the model has no such operating point.
    """
    if is_export(run):
        exported = read_exported(run)
        name, digest, description = "Hilum", exported.bundle_sha256, exported.description
    else:
        name, digest, description = _name(run), file_sha256(run / BUNDLE_JSON), read_description(run)
    if point is not None:
        if description.thresholds is None:
            raise HilumError(f"operating point must come from thresholds, and {run} has none. See: hilum calibrate")
        description.thresholds.thresholds(point)
    return ResultModel(name, digest, description, point)


def _name(run: Path) -> str:
    recipe = read_bundle_json(run).get("recipe")
    return f"Hilum {recipe['name']}"[:64] if isinstance(recipe, dict) and "name" in recipe else "Hilum"
