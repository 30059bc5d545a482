"""The sections of a report: one file for each, and their order on the page."""

from typing import Any, Protocol

from hilum.evaluation import (
    calibration,
    cohort,
    confusions,
    controls,
    curves,
    decision,
    external,
    gallery,
    localization,
    model,
    operating_points,
    reference,
    runs,
    subgroups,
)
from hilum.evaluation.case import Case
from hilum.evaluation.views import View


class Section(Protocol):
    """A module that measures one part of a report and shows it.

    A new section is such a module, and its line in SECTIONS: it then stands in report.json under its key, on the page,
    in the list of contents and in the model card.
    """

    key: str

    def measure(self, case: Case) -> Any:
        """What report.json holds under the key, as plain JSON; None if it was not measured: `case.notes` says why."""

    def view(self, report: dict[str, Any]) -> View | None:
        """What is shown of a report.json that has the key; None if that is nothing."""


SECTIONS: tuple[Section, ...] = (
    controls,
    runs,
    curves,
    calibration,
    operating_points,
    decision,
    confusions,
    subgroups,
    reference,
    external,
    localization,
    gallery,
    cohort,
    model,
)
"""All sections in the page's order; each may build on those before it."""


def measure(case: Case) -> None:
    """Let each section measure a case, and keep what it says in the case's report."""
    for section in SECTIONS:
        case.report[section.key] = section.measure(case)


def views(report: dict[str, Any]) -> list[View]:
    """What all sections show of a report; sections that a report of an earlier version lacks are left out."""
    found = (section.view(report) for section in SECTIONS if section.key in report)
    return [view for view in found if view is not None]
