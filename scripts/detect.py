"""Checkpoint detect: which calibrator transits in a group."""

from contimg import files, job


def step(task: job.Task) -> None:
    from contimg.science.detect import detect

    files.write_json(task.output.calibrator, detect(task.input.manifest, task.settings))


job.run(snakemake, step)
