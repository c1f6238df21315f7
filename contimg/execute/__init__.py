"""Snakemake calls and their outcomes: lease, start, watchdog, Slurm, settling.

In: a plan's calls. Out: settled rows of the ledger.
"""
