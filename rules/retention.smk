"""What is old enough and no longer needed goes to the archive and leaves the disks. It has no output: ask for `retain`."""


rule retain:
    """Archive, read back, remove; stopped anywhere, the next run goes on (see docs/operations)."""
    log:
        "logs/retain.log",
    benchmark:
        "logs/retain.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        runtime=settings.limits.retain_minutes,
    script:
        "../scripts/retain.py"
