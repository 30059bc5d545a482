"""The exception tree: faults of files, films and bundles. A slip in the caller's code is a ValueError instead."""


class HilumError(Exception):
    """Something outside the program is wrong: one sentence that says what, where, and what to do about it."""


class FilmsError(HilumError):
    """A manifest, or the source folder that it is made from, cannot be used."""


class ImageError(HilumError):
    """An image file cannot be read as a film."""


class PredictionsError(HilumError):
    """A table of scores cannot be judged."""


class RecipeError(HilumError):
    """A recipe cannot be read, or asks for something impossible."""


class BundleError(HilumError):
    """A bundle, a checkpoint or a weights file cannot be loaded."""


class MissingExtraError(HilumError):
    """An optional dependency is needed and not installed."""


class TrainingStoppedError(HilumError):
    """A training was interrupted, and saved first."""
