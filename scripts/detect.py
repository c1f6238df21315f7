"""Checkpoint detect: the calibrator that transits in a group."""

from contimg.core import files
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.calibrators.detect import DetectionSettings, detect

    found = detect(task.input.manifest, task.settings.part(DetectionSettings))
    files.write_json(task.output.calibrator, found)


job.run(snakemake, step)
