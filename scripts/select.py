"""Rule select: the calibration sets of a target."""

from contimg.core import files
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.core.paths import DataRoot
    from contimg.sets.registry import Registry
    from contimg.sets.select import select, solved_or_best

    registry = Registry(DataRoot(task.settings.data_root), task.settings.calibration)
    sets = solved_or_best(task.input.manifest, task.input.sets, registry)
    files.write_json(task.output.selection, select(task.input.manifest, sets, registry))


job.run(snakemake, step)
