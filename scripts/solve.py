"""Rule solve: a calibrator group → its set of caltables."""

from contimg.job import job


def step(task: job.Task) -> dict:
    from contimg.figures.quicklook import calibration_png
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.solve.solve import solve

    with job.scratch(task) as directory:
        settings = task.settings.part(FieldCalibrationSettings)
        description = solve(task.input.ms, task.input.calibrator, directory, settings, task.threads)
        calibration_png(directory, task.output.plot, description)
        for name in ("delay", "bandpass", "gain"):
            table = directory / f"{name}.cal"
            table.mkdir(exist_ok=True)  # empty where the group gave no solution
            table.rename(getattr(task.output, name))
    return description


job.run(snakemake, step)
