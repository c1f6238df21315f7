"""Measurement Set and selected set → image."""


rule image:
    """A group calibrated, averaged, cleaned and corrected for the primary beam that it drifted through."""
    input:
        ms="ms/{date}/{group}.ms",
        conversion="ms/{date}/{group}.json",
        selection="images/{date}/{group}.selection.json",
    output:
        image=update("images/{date}/{group}.image.fits"),
        noise=update("images/{date}/{group}.noise.fits"),
        pb=update("images/{date}/{group}.pb.fits"),
        png=report(
            update("images/{date}/{group}.png"),
            caption="../report/image.rst",
            category="Images",
            labels={"group": "{group}"},
        ),
        validation=report(
            update("images/{date}/{group}.validation.html"),
            caption="../report/validation.rst",
            category="Validation",
            labels={"product": "{group}"},
        ),
        sources=update("images/{date}/{group}.sources.csv"),
        sidecar=update("images/{date}/{group}.json"),
    log:
        "logs/{date}/{group}/image.log",
    benchmark:
        "logs/{date}/{group}/image.benchmark.tsv"
    conda:
        "../envs/contimg.yaml"
    threads: shared_cores
    resources:
        image_share=SHARE // settings.limits.image_jobs,
        mem_mb=settings.limits.mem_mb,
        runtime=settings.limits.image_minutes,
    script:
        "../scripts/image.py"
