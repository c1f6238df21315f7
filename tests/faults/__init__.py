"""Break tests: real processes, real Snakemake, real science jobs, and something that goes wrong."""
