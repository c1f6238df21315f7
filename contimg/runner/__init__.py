"""Streaming runner: scan → plan → Snakemake → settle → alert → sleep.

In: a data root and its lease. Out: all products that are due; status and audit.
"""
