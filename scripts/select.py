"""Rule select: the sets that calibrate a target."""

from contimg import files, job


def step(task: job.Task) -> None:
    from contimg.science.select import select

    files.write_json(task.output.selection, select(task.input.manifest, task.input.sets, task.settings))


job.run(snakemake, step)
