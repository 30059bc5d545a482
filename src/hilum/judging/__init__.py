"""The sections of a report: what is measured beyond ranking, each in the form of report.json."""
