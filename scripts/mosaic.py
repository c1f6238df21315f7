"""Rule mosaic: the images of a window → its mosaic, and one for each further pointing in it."""

from pathlib import Path

from contimg.job import job
from contimg.mosaic.pointings import obsolete, pointings

window = snakemake.wildcards.window
names = pointings(window, map(Path, snakemake.input.sidecars))
further = [name for name in names if name != window]


def step(task: job.Task) -> dict:
    from contimg.mosaic.coadd import ImageInputs
    from contimg.mosaic.mosaic import mosaics

    inputs = ("images", "noise", "pb", "sidecars")
    images = [ImageInputs(*paths) for paths in zip(*(getattr(task.input, name) for name in inputs), strict=True)]
    first, *others = mosaics(images, names, task.output, task.settings, task.threads)
    return first | {"further": dict(zip(further, others, strict=True))}


old = obsolete(Path(snakemake.output.sidecar).parent, window, names)
job.run(snakemake, step, further=further, obsolete=old)
