"""What is old enough and no longer needed goes to the archive and leaves the disks. It has no output: ask for `retain`.

Nor a benchmark, which Snakemake takes for an output: the rule would run only once.
"""


rule retain:
    """Archive, read back, remove; stopped anywhere, the next run goes on (see docs/operations)."""
    log:
        "logs/retain.log",
    conda:
        "../envs/contimg.yaml"
    threads: 2
    resources:
        mem_mb=1000,
        runtime=minutes("retain"),
    script:
        "../scripts/retain.py"
