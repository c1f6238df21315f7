"""Summaries of a data root, and the demonstration.

In: sidecars. Out: `reports/summary.html` and `.json`.
"""
