"""What the rules of Snakemake ask: which products are due, what each is made from, and what waits, and why.

In: settings, data root and the groups that a look found. Out: paths and reasons; nothing is written, and nothing here
knows of Snakemake.
"""
