"""Backup: a snapshot of what cannot be made again from raw data. It has no output: ask for `backup`.

It has no benchmark either, which Snakemake takes for an output: the rule would run only once.
"""


rule backup:
    """Snapshot, read back, sent, and read back at its destination (see docs/operations)."""
    log:
        "logs/backup.log",
    conda:
        "../envs/contimg.yaml"
    threads: 2
    resources:
        mem_mb=demand("backup", settings.limits).memory_mb,
        runtime=minutes("backup"),
    script:
        "../scripts/backup.py"
