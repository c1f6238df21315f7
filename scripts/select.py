"""Rule select: the sets that calibrate a target."""

from contimg.core import files
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.core.paths import DataRoot
    from contimg.sets.registry import Registry
    from contimg.sets.select import select

    registry = Registry(DataRoot(task.settings.data_root), task.settings.calibration)
    files.write_json(task.output.selection, select(task.input.manifest, task.input.sets, registry))


job.run(snakemake, step)
