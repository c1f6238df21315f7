"""What surrounds every job: the supervised child process, staging, whole outputs, attempt records, progress, cache.

In: a Snakemake job and the function that does its work. Out: outputs that are whole or absent, and a record.
"""
