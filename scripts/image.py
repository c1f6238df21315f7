"""Rule image: a group's Measurement Set and selected set → its image."""

from contimg.job.job import Job, run, scratch


def step(job: Job) -> dict:
    from contimg.image.image import ImageProducts, image
    from contimg.sets.reimaging import history

    names = ("image", "noise", "pb", "png", "validation", "sources", "antennas")
    products = ImageProducts(*(getattr(job.output, name) for name in names))
    with scratch(job) as directory:
        made = image(job.input.ms, job.input.selection, products, directory, job.settings, job.threads)
    return {**made, "history": history(job.replaced)}


run(snakemake, step)
