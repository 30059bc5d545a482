"""The operating points that Hilum offers: one table for thresholds, command line, pages and messages."""

from dataclasses import dataclass
from typing import Literal

RuleName = Literal["youden", "sensitivity", "specificity", "alarms"]


@dataclass(frozen=True)
class Rule:
    """How an operating point is chosen.

    Attributes:
        name: youden, the largest sensitivity + specificity; sensitivity, the highest threshold that reaches it;
            specificity, the lowest that reaches it; alarms, the lowest with at most so many positive calls per 100
            films.
        aim: the sensitivity or specificity in (0, 1), or positive calls per 100 films; not looked at for youden.
    """

    name: RuleName
    aim: float = 0.0


@dataclass(frozen=True)
class OperatingPoint:
    """A rule under the name that bundles keep its thresholds by.

    Attributes:
        label: what pages call it.
        help: what it is for, in a few words.
    """

    rule: Rule
    label: str
    help: str


OPERATING_POINTS: dict[str, OperatingPoint] = {
    "youden": OperatingPoint(
        Rule("youden"), "Largest sensitivity + specificity (Youden)", "sensitivity and specificity count alike"
    ),
    "sensitivity-90": OperatingPoint(
        Rule("sensitivity", 0.90), "Sensitivity of 90 % on validation", "to miss few films with the finding"
    ),
    "specificity-90": OperatingPoint(
        Rule("specificity", 0.90), "Specificity of 90 % on validation", "to call few films without the finding"
    ),
    "alarms-10": OperatingPoint(
        Rule("alarms", 10.0), "10 positive calls per 100 films on validation", "to bound the films to be looked at"
    ),
}
"""The operating points by name."""

SOURCE_POINT = "source"
"""Where an imported model's own publisher calls a finding; it comes from no rule of Hilum's."""

DEFAULT_POINT = "youden"
"""Where calls are wanted and no operating point is named: the one that asks for no number of anybody."""

STATED = "stated"
"""Thresholds that somebody wrote down, by no rule."""

POINT_NAMES = f"{', '.join([*OPERATING_POINTS][:-1])} or {[*OPERATING_POINTS][-1]}"
"""All names, for help and messages."""


def point_label(name: str) -> str:
    """What pages call an operating point; its name if it is of a bundle of another version."""
    if name == STATED:
        return "Thresholds that were stated"
    if name == SOURCE_POINT:
        return "Thresholds that the model's own source states"
    return OPERATING_POINTS[name].label if name in OPERATING_POINTS else name
