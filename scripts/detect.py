"""Checkpoint detect: the calibrator that transits in a group."""

from contimg.core import files
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.calibrators.detect import detect

    files.write_json(task.output.calibrator, detect(task.input.manifest, task.settings))


job.run(snakemake, step)
