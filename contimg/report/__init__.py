"""Summaries of a data root, service levels, and the demonstration.

In: sidecars, attempt records, ledger. Out: `reports/summary.html` and `.json`, service levels as text, JSON or HTML.
"""
