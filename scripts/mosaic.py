"""Rule mosaic: the images of a window → its mosaic, and one for each further pointing in it."""

from pathlib import Path

from contimg.job.job import Job, run
from contimg.mosaic.pointings import obsolete, pointings

window = snakemake.wildcards.window
names = pointings(window, map(Path, snakemake.input.sidecars))
further = [name for name in names if name != window]


def step(job: Job) -> dict:
    from contimg.mosaic.coadd import ImageInputs
    from contimg.mosaic.mosaic import MosaicSettings, mosaics

    inputs = ("images", "noise", "pb", "sidecars")
    images = [ImageInputs(*paths) for paths in zip(*(getattr(job.input, name) for name in inputs), strict=True)]
    settings = job.settings.part(MosaicSettings)
    first, *others = mosaics(images, names, job.output, settings, job.threads)
    return first | {"further": dict(zip(further, others, strict=True))}


old = obsolete(Path(snakemake.output.sidecar).parent, window, names)
run(snakemake, step, further=further, obsolete=old)
