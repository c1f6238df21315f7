"""Rule solve: a calibrator group → its set of caltables."""

from contimg.job.job import Job, run, scratch


def step(job: Job) -> dict:
    from contimg.figures.quicklook import calibration_png
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.solve.solve import solve

    with scratch(job) as directory:
        settings = job.settings.part(FieldCalibrationSettings)
        description = solve(job.input.ms, job.input.calibrator, directory, settings, job.threads)
        calibration_png(directory, job.output.plot, description)
        for name in ("delay", "bandpass", "gain"):
            table = directory / f"{name}.cal"
            table.mkdir(exist_ok=True)  # empty where the group gave no solution
            table.rename(getattr(job.output, name))
    return description


run(snakemake, step)
