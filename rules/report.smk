"""What came out: one table of groups, sets and mosaics, for people and for programs."""


rule summary:
    """The table of every group: set, verdict, noise, quality, or why it waits."""
    input:
        manifests=[relative(root.manifest(group)) for group in found],
        images=images_due,
        mosaics=mosaics_due,
    output:
        html=report(
            "reports/summary.html", caption="../report/summary.rst", category="Summary"
        ),
        json="reports/summary.json",
    log:
        "logs/summary.log",
    benchmark:
        "logs/summary.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../scripts/summary.py"
