"""Snakemake calls and their outcomes: retry, watchdog.

In: a plan's calls. Out: settled rows of the ledger.
"""
