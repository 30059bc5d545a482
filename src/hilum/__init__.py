"""Hilum trains, judges, explains and runs multi-label chest X-ray classifiers."""

__version__ = "0.1.0"

DISCLAIMER = "Research software, not a medical device. Not for diagnosis, treatment or triage of patients."
"""Stands wherever scores are shown."""
