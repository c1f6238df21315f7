"""The streaming runner: scan → plan → Snakemake → settle → alert → sleep."""
