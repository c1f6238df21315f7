"""Images of a window → mosaic."""


rule mosaic:
    """The window's images on one grid, weighted by primary beam squared over noise squared."""
    input:
        images=lambda wildcards: [
            relative(root.image(group)) for group in mosaic_groups(wildcards.window)
        ],
        noise=lambda wildcards: [
            relative(root.image(group, "noise.fits"))
            for group in mosaic_groups(wildcards.window)
        ],
        pb=lambda wildcards: [
            relative(root.image(group, "pb.fits"))
            for group in mosaic_groups(wildcards.window)
        ],
        sidecars=lambda wildcards: [
            relative(root.image(group, "json"))
            for group in mosaic_groups(wildcards.window)
        ],
    output:
        image=update("mosaics/{date}/{window}.image.fits"),
        weight=update("mosaics/{date}/{window}.weight.fits"),
        coverage=update("mosaics/{date}/{window}.coverage.fits"),
        png=report(
            update("mosaics/{date}/{window}.png"),
            caption="../report/mosaic.rst",
            category="Mosaics",
            labels={"window": "{window}"},
        ),
        validation=report(
            update("mosaics/{date}/{window}.validation.html"),
            caption="../report/validation.rst",
            category="Validation",
            labels={"product": "{window}"},
        ),
        sidecar=update("mosaics/{date}/{window}.json"),
    log:
        "logs/{date}/{window}/mosaic.log",
    benchmark:
        "logs/{date}/{window}/mosaic.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: settings.limits.threads
    resources:
        mem_mb=settings.limits.mem_mb,
        runtime=settings.limits.mosaic_minutes,
    script:
        "../scripts/mosaic.py"
