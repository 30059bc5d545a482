"""Measures of scores against labels: pure functions of arrays."""
