"""Hilum trains, judges, explains and runs multi-label chest X-ray classifiers. Research software, not a medical device."""

__version__ = "0.1.0"
