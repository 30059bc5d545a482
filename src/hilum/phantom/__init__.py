"""Simulated chest radiographs with ground truth: anatomy, findings, films, and a data set in NIH's own layout."""
