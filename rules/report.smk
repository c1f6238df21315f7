"""Report: one table of groups, sets and mosaics, for people and for programs."""


rule summary:
    """Table of every group: set, verdict, noise, quality, or the reason for its wait."""
    input:
        manifests=relative(root.manifest(group) for group in due.groups),
        images=asked("image", "image_groups"),
        mosaics=asked("mosaic", "windows"),
    output:
        html=product("summary_html"),
        json=product("summary"),
    log:
        "logs/summary.log",
    benchmark:
        "logs/summary.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=demand("summary", settings.limits).memory_mb,
        runtime=minutes("summary"),
    script:
        "../scripts/summary.py"
