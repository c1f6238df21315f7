"""Images of a window → mosaic."""


rule mosaic:
    """Images of a window on one grid, weighted by primary beam squared over noise squared."""
    input:
        images=images_of("image"),
        noise=images_of("image_noise"),
        pb=images_of("image_pb"),
        sidecars=images_of("image_sidecar"),
    output:
        image=update(product("mosaic")),
        weight=update(product("mosaic_weight")),
        coverage=update(product("mosaic_coverage")),
        png=update(product("mosaic_png")),
        validation=update(product("mosaic_validation")),
        sidecar=update(product("mosaic_sidecar")),
    log:
        "logs/{date}/{window}/mosaic.log",
    benchmark:
        "logs/{date}/{window}/mosaic.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: settings.limits.threads
    resources:
        mem_mb=demand("mosaic", settings.limits).memory_mb,
        runtime=minutes("mosaic"),
    params:
        failed_tries=tries("mosaic"),
    script:
        "../scripts/mosaic.py"
