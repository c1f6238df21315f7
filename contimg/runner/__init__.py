"""The streaming runner: scan → plan → Snakemake → settle → alert → sleep.

In: a data root and its lease. Out: everything that is due, made; status and audit.
"""
