"""Queries of Snakemake's rules: products that are due, their inputs, and the reasons for which others wait.

In: settings, data root and the groups of a scan. Out: paths and reasons; nothing is written, and Snakemake is not
imported.
"""
