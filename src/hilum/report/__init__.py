"""Figures and the self-contained page, made from report.json and from nothing else."""
