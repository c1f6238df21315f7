"""Snakemake calls and their outcomes: retry, quarantine, watchdog.

In: a plan's calls. Out: settled rows of the ledger, files in quarantine.
"""
