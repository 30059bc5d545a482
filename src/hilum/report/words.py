"""Numbers and names as the pages write them."""

from collections.abc import Sequence
from typing import Any


def decimal(value: float | None) -> str:
    """Three decimals, or the word undefined."""
    return "undefined" if value is None else f"{value:.3f}"


def interval(estimate: dict[str, Any]) -> str:
    """From low to high, or that there is none."""
    return "no interval" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def signed_interval(difference: dict[str, Any]) -> str:
    """The interval of a difference, with signs, or that there is none."""
    return "no interval" if difference["low"] is None else f"{difference['low']:+.3f} to {difference['high']:+.3f}"


def shown_p(value: float | None) -> str:
    """A p-value with three decimals, or that it is smaller or undefined."""
    if value is None:
        return "undefined"
    return f"{value:.3f}" if value >= 0.001 else "< 0.001"


def count(value: int) -> str:
    """With a comma before thousands."""
    return f"{value:,}"


def words(name: str) -> str:
    """A name without underscores."""
    return name.replace("_", " ")


def listed(names: Sequence[str]) -> str:
    """Names in a row, the last after an and."""
    spoken = [words(name) for name in names]
    return spoken[0] if len(spoken) == 1 else f"{', '.join(spoken[:-1])} and {spoken[-1]}"


def plural(number: int, noun: str) -> str:
    """A number with its noun, as in 2 films."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def were(items: Sequence[object]) -> str:
    """The verb for so many."""
    return "was" if len(items) == 1 else "were"
