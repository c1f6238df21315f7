"""Measurement Set and selected set → image."""


rule image:
    """A group calibrated, averaged, cleaned and corrected for the primary beam that it drifted through."""
    input:
        ms=product("ms"),
        conversion=product("ms_sidecar"),
        selection=product("selection"),
    output:
        image=update(product("image")),
        noise=update(product("image_noise")),
        pb=update(product("image_pb")),
        png=update(product("image_png")),
        validation=update(product("image_validation")),
        sources=update(product("image_sources")),
        antennas=update(product("antennas")),
        sidecar=update(product("image_sidecar")),
    log:
        "logs/{date}/{group}/image.log",
    benchmark:
        "logs/{date}/{group}/image.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: shared_cores
    resources:
        image_share=SHARE // settings.limits.image_jobs,
        mem_mb=demand("image", settings.limits).memory_mb,
        runtime=minutes("image"),
    params:
        failed_tries=tries("image"),
    script:
        "../scripts/image.py"
