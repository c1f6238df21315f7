"""Rule select: the sets that calibrate a target."""

from contimg.core import files
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.sets.select import select

    files.write_json(task.output.selection, select(task.input.manifest, task.input.sets, task.settings))


job.run(snakemake, step)
