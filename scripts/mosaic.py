"""Rule mosaic: the images of a window → its mosaic."""

from contimg.job import job


def step(task: job.Task) -> dict:
    from contimg.mosaic.coadd import ImageInputs
    from contimg.mosaic.mosaic import MosaicProducts, mosaic

    names = ("images", "noise", "pb", "sidecars")
    images = [ImageInputs(*paths) for paths in zip(*(getattr(task.input, name) for name in names), strict=True)]
    outputs = ("image", "weight", "coverage", "png", "validation")
    products = MosaicProducts(*(getattr(task.output, name) for name in outputs))
    return mosaic(images, products, task.settings, snakemake.wildcards.window, task.threads)


job.run(snakemake, step)
