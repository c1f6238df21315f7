"""Raw files → Measurement Sets. The manifests, which stand for the raw files, are written by the scan."""


rule convert:
    """One group's subbands, phased to one centre, flagged, as one Measurement Set."""
    input:
        manifest="groups/{group}.json",
    output:
        ms=directory("ms/{date}/{group}.ms"),
        sidecar="ms/{date}/{group}.json",
    log:
        "logs/{date}/{group}/convert.log",
    benchmark:
        "logs/{date}/{group}/convert.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: shared_cores
    resources:
        conversion_share=SHARE // settings.limits.conversions,
        mem_mb=lambda wildcards: 1000 + raw_mb(wildcards.group),  # staged in memory
        tmpfs_mb=lambda wildcards: int(
            settings.staging.safety_factor * raw_mb(wildcards.group)
        ),
        runtime=settings.limits.convert_minutes,
    script:
        "../scripts/convert.py"
