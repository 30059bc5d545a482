"""Operating points of a bundle: thresholds chosen on validation, bound to the model that they were chosen for."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Shaped

from hilum.errors import HilumError
from hilum.findings import resolve
from hilum.metrics.operating_points import OPERATING_POINTS, STATED
from hilum.metrics.thresholds import Threshold, choose

PRESENT, ABSENT, INDETERMINATE, NO_THRESHOLD = "present", "absent", "indeterminate", "no threshold"
CALL = "call_"
"""What the names of columns with calls begin with, so that none is taken for a score."""


@dataclass(frozen=True)
class OperatingPoints:
    """Thresholds by operating point and finding; None where validation did not show what the rule asks for.

    Attributes:
        bound_to: hash of weights, preprocessing, calibration and calibration films; see `binding`.
        points: name of the operating point -> finding -> threshold.
    """

    bound_to: str
    points: dict[str, dict[str, Threshold | None]]

    def to_dict(self) -> dict[str, Any]:
        """The form of bundle.json: a threshold is its value, both ends of its band and, if it has none, why."""
        points = {
            name: {
                finding: None if one is None else [*one[:3], *filter(None, one[3:])] for finding, one in point.items()
            }
            for name, point in self.points.items()
        }
        return {"bound_to": self.bound_to, "points": points}

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any], findings: Sequence[str]) -> "OperatingPoints":
        """The reverse of `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: if a field is missing or is not what it must be.
        """
        for name, point in fields["points"].items():
            check_keys(point, findings, f"thresholds of {name}")
        points = {
            str(name): {finding: _threshold(point[finding]) for finding in findings}
            for name, point in fields["points"].items()
        }
        return cls(str(fields["bound_to"]), points)

    def thresholds(self, name: str) -> dict[str, Threshold | None]:
        """The thresholds of one operating point.

        Raises:
            HilumError: if there is no such point.
        """
        if name not in self.points:
            raise HilumError(f"operating point must be one of {', '.join(self.points)}, got {name!r}")
        return self.points[name]

    def nearest(self, name: str) -> str:
        """The operating point of that name; where there is none, the first."""
        return name if name in self.points else next(iter(self.points))


def binding(weights_sha256: str, preprocessing: Mapping[str, Any], calibration: object, calibration_films: str) -> str:
    """SHA-256 over all that a threshold holds for: with another of these, a score means something else."""
    parts = [weights_sha256, dict(preprocessing), calibration, calibration_films]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def findings_sha256(findings: Sequence[str]) -> str:
    """SHA-256 over what a model's outputs mean, in their order."""
    return hashlib.sha256(json.dumps(list(findings)).encode()).hexdigest()


def check_keys(by_finding: Mapping[str, Any], findings: Sequence[str], name: str) -> None:
    """Check that a table has an entry for each finding, and no other.

    Raises:
        ValueError: naming the first that is missing or one too many.
    """
    wrong = [key for key in findings if key not in by_finding] + [key for key in by_finding if key not in findings]
    if wrong:
        raise ValueError(f"{name} must have an entry for each finding and no other, got {wrong[0]!r} wrong")


def choose_points(
    scores: Float64[np.ndarray, "films findings"],
    labels: Float64[np.ndarray, "films findings"],
    patients: Shaped[np.ndarray, " films"],
    findings: Sequence[str],
    *,
    bounds: tuple[float, float] = (0.0, 1.0),
) -> dict[str, dict[str, Threshold | None]]:
    """All operating points of all findings, chosen on validation films.

    `choose` puts a threshold on the score of a film. Here it lies halfway to the next lower score: these films' calls
    are the same, and stay so when another engine, or another batch, computes the score anew and a millionth lower.

    Args:
        scores: within the bounds.
        bounds: the lowest and the highest score that there may be: where a band without an end on one side ends.
    """
    return {
        name: {
            finding: _between(choose(scores[:, k], labels[:, k], patients, point.rule), scores[:, k], bounds)
            for k, finding in enumerate(findings)
        }
        for name, point in OPERATING_POINTS.items()
    }


def _between(
    threshold: Threshold | None, scores: Float64[np.ndarray, " films"], bounds: tuple[float, float]
) -> Threshold | None:
    """The threshold halfway to the next lower score; where it lies on no film, as it is. Bands end at the bounds."""
    if threshold is None:
        return None
    value, low, high = threshold.value, max(threshold.low, bounds[0]), threshold.high
    if value in scores:
        value = (value + float(scores[scores < value].max(initial=bounds[0]))) / 2
    return Threshold(value, min(low, value), max(min(high, bounds[1]), value), threshold.why)


def stated_thresholds(texts: Sequence[str], findings: Sequence[str]) -> OperatingPoints:
    """One operating point, `stated`, of what a user writes: 0.3 for all findings, or Mass=0.3 for one; later ones win.

    Raises:
        HilumError: if a text is neither, or names an unknown finding.
    """
    stated: dict[str, Threshold | None] = dict.fromkeys(findings)
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        finding = resolve(name, findings) if name else None
        if not np.isfinite(value) or (name and finding is None):
            raise HilumError(
                f"threshold must be a number such as 0.3, or one of a finding such as {findings[0]}=0.3, got {text!r}. "
                f"The findings are {', '.join(findings)}."
            )
        stated |= dict.fromkeys([finding] if finding else findings, Threshold(value, value, value, NOT_CHOSEN))
    return OperatingPoints("", {STATED: stated})


NOT_CHOSEN = "stated, so without an interval"
"""Why a stated threshold has no band."""


def call(score: float, threshold: Threshold | None) -> str:
    """Present, absent, indeterminate, or no threshold; empty where there is no score."""
    if np.isnan(score):
        return ""
    if threshold is None:
        return NO_THRESHOLD
    if threshold.low <= score < threshold.high:
        return INDETERMINATE
    return PRESENT if score >= threshold.value else ABSENT


def indeterminate(scores: Float64[np.ndarray, " films"], threshold: Threshold) -> Shaped[np.ndarray, " films"]:
    """Which scores lie in the threshold's band."""
    return (scores >= threshold.low) & (scores < threshold.high)


def stated_prevalence(texts: Sequence[str], findings: Sequence[str]) -> dict[str, float]:
    """Prevalence by finding from what a user writes: 0.02 for all findings, or Mass=0.02 for one; later ones win.

    Raises:
        HilumError: if a text is neither, or the number is not between 0 and 1.
    """
    stated: dict[str, float] = {}
    for text in texts:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        finding = resolve(name, findings) if name else None
        if not 0 < value < 1 or (name and finding is None):
            raise HilumError(
                f"prevalence must be a number between 0 and 1 such as 0.02, or one of a finding such as "
                f"{findings[0]}=0.02, got {text!r}"
            )
        stated |= dict.fromkeys([finding] if finding else findings, value)
    return stated


def _threshold(values: object) -> Threshold | None:
    if values is None:
        return None
    why = str(values[3]) if isinstance(values, list | tuple) and len(values) == 4 else ""
    values = values[:3] if why and isinstance(values, list | tuple) else values
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ValueError(f"threshold must be three numbers, got {values!r}")
    if not all(
        isinstance(number, int | float) and not isinstance(number, bool) and np.isfinite(number) for number in values
    ):
        raise ValueError(f"threshold must be finite numbers, got {values!r}")
    value, low, high = map(float, values)
    if not low <= value <= high:
        raise ValueError(f"threshold must lie in its band, got {values!r}")
    return Threshold(value, low, high, why)
