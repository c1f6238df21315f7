"""Raw files → manifests → Measurement Sets."""


rule scan:
    """Manifests of the groups with new or changed files, which stand for the raw files in all other rules."""
    output:
        update(relative(root.manifest(group.name) for group in found.due)),
        touch(SCANNED),
    log:
        "logs/scan.log",
    conda:
        "../envs/contimg.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    script:
        "../scripts/scan.py"


rule convert:
    """Subbands of a group as one Measurement Set, phased to one centre and flagged."""
    input:
        manifest=product("manifest"),
    output:
        ms=directory(product("ms")),
        sidecar=product("ms_sidecar"),
    log:
        "logs/{date}/{group}/convert.log",
    benchmark:
        "logs/{date}/{group}/convert.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: shared_cores
    resources:
        conversion_share=SHARE // settings.limits.conversions,
        mem_mb=lambda wildcards: demand(
            "convert", settings.limits, due.raw_mb(wildcards.group)
        ).memory_mb,
        tmpfs_mb=lambda wildcards: int(
            settings.staging.safety_factor * due.raw_mb(wildcards.group)
        ),
        runtime=minutes("convert"),
    script:
        "../scripts/convert.py"
