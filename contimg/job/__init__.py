"""Job harness: supervised child process, time limit, staging, whole outputs, attempt records, log lines.

In: a Snakemake job and the function that does its work. Out: outputs that are whole or absent, and a record.
"""
