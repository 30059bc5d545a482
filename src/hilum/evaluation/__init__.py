"""Evaluate scores on a split: one file a section of the report, and the page that shows them."""
