"""Hilum trains, evaluates, explains and runs multi-label chest X-ray classifiers. Start with `hilum.load`."""

TYPE_CHECKING = False  # type checkers take it for typing's, whose import would cost more than all else here
if TYPE_CHECKING:
    from hilum.api import Heatmap, Model, Result, evaluate, load, train
    from hilum.data.films import Films
    from hilum.errors import HilumError
    from hilum.evaluation.evaluate import Report

__all__ = [
    "DISCLAIMER",
    "Films",
    "Heatmap",
    "HilumError",
    "Model",
    "Report",
    "Result",
    "__version__",
    "evaluate",
    "load",
    "train",
]

__version__ = "0.1.0"

DISCLAIMER = "Research software, not a medical device. Not for diagnosis, treatment or triage of patients."
"""Stands wherever scores are shown."""

_HOMES = {"Films": "hilum.data.films", "HilumError": "hilum.errors", "Report": "hilum.evaluation.evaluate"}


def __getattr__(name: str) -> object:
    """Import what is asked for when it is asked for, so that `import hilum` stays fast."""
    if name not in __all__:
        raise AttributeError(f"module 'hilum' has no attribute {name!r}")
    from importlib import import_module

    globals()[name] = found = getattr(import_module(_HOMES.get(name, "hilum.api")), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
