"""Checkpoint detect: the calibrator that transits in a group."""

from contimg.core import files
from contimg.job.job import Job, run


def step(job: Job) -> None:
    from contimg.calibrators.detect import DetectionSettings, detect

    found = detect(job.input.manifest, job.settings.part(DetectionSettings))
    files.write_json(job.output.calibrator, found)


run(snakemake, step)
