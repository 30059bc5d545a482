"""Progress bars on standard error, so that standard output stays a table or JSON."""

from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Item = TypeVar("Item")


def messages() -> Console:
    """The console that messages and bars go to: standard error."""
    return Console(stderr=True, highlight=False)


def track(items: Iterable[Item], description: str, *, total: int | None = None) -> Iterator[Item]:
    """Yield the items while a bar on standard error shows how far they are.

    Args:
        description: what is being done, in two or three words.
        total: the number of items, where `len` does not tell.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=messages()) as progress:
        yield from progress.track(items, total=total, description=description)
