"""Arrivals in `incoming/`, taken up by the runner.

In: raw files as they come. Out: rows of the ledger.
"""
