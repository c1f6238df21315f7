"""Rule select: the calibration sets of a target."""

from contimg.core import files
from contimg.job.job import Job, run


def step(job: Job) -> None:
    from contimg.core.paths import DataRoot
    from contimg.sets.registry import Registry
    from contimg.sets.select import select, solved_or_best

    registry = Registry(DataRoot(job.settings.data_root), job.settings.calibration)
    sets = solved_or_best(job.input.manifest, job.input.sets, registry)
    files.write_json(job.output.selection, select(job.input.manifest, sets, registry))


run(snakemake, step)
