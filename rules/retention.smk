"""Retention: old products go to the archive and leave the disks. It has no output: ask for `retain`.

It has no benchmark either, which Snakemake takes for an output: the rule would run only once.
"""


rule retain:
    """Archive, read back, remove; the next run continues after an interruption (see docs/operations)."""
    log:
        "logs/retain.log",
    conda:
        "../envs/contimg.yaml"
    threads: 2
    resources:
        mem_mb=demand("retain", settings.limits).memory_mb,
        runtime=minutes("retain"),
    script:
        "../scripts/retain.py"
