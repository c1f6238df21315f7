"""A snapshot of what cannot be made again from raw data. It has no output: ask for `backup`."""


rule backup:
    """Snapshot, read back, send, read back (see docs/operations)."""
    log:
        "logs/backup.log",
    benchmark:
        "logs/backup.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        runtime=settings.limits.backup_minutes,
    script:
        "../scripts/backup.py"
