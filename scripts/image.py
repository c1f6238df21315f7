"""Rule image: a group's Measurement Set and selected set → its image."""

from contimg.job import job


def step(task: job.Task) -> dict:
    from contimg.image.image import ImageProducts, image
    from contimg.sets.reimaging import history

    names = ("image", "noise", "pb", "png", "validation", "sources", "antennas")
    products = ImageProducts(*(getattr(task.output, name) for name in names))
    with job.scratch(task) as directory:
        made = image(task.input.ms, task.input.selection, products, directory, task.settings, task.threads)
    return {**made, "history": history(task.replaced)}


job.run(snakemake, step)
