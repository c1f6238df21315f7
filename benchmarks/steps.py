"""Measured steps, each in a process of its own (python -m benchmarks.steps STEP ARGUMENTS…)."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import fields
from pathlib import Path

from contimg.core import config, files
from contimg.core.paths import DataRoot

THREADS = 2


def convert(settings_path: str, group: str, ms: str) -> None:
    """Convert a group with contimg, and end as the child of a job ends, without the interpreter's own end (0.2 s)."""
    from contimg.convert import convert as step

    settings = config.load(Path(settings_path)).part(step.ConversionSettings)
    step.convert(DataRoot(settings.data_root).manifest(group), Path(ms), settings, THREADS)
    os._exit(0)


def by_pyuvdata(settings_path: str, group: str, ms: str) -> None:
    """Convert a group with pyuvdata, to the phase centre that contimg would take."""
    from benchmarks import reference
    from contimg.telescope import meridian
    from contimg.telescope.raw_header import read_header

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    subbands = files.read_json(root.manifest(group))["subbands"].values()
    paths = [root.root / subband["path"] for subband in subbands]
    header = read_header(paths[0])
    centre = meridian.group_centre(header.times_jd, header.declination_rad)
    reference.by_pyuvdata(paths, Path(ms), centre, exact=False)


def image(settings_path: str, group: str, directory: str) -> None:
    """Calibrate, average, image and restore a group with contimg; writes what is to be compared."""
    from benchmarks import imaging
    from contimg.image import field_image
    from contimg.sets import interpolate
    from contimg.visibilities.baseline_averaging import average

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    gains = interpolate.load(files.read_json(root.image(group, "selection.json")), root.root)
    averaged = average(root.ms(group), gains, field_image.image_plan(settings.imaging, settings.beam), THREADS)
    made = field_image.make(
        averaged, Path(directory) / "work", settings.part(field_image.FieldImageSettings), THREADS
    )
    imaging.keep(made, Path(directory))


def image_of_size(settings_path: str, group: str, antennas: str, out: str) -> None:
    """Image the averages of a group as if of another number of antennas; writes what the image took."""
    import resource
    import tempfile

    from benchmarks import sizes
    from contimg.image import field_image
    from contimg.sets import interpolate
    from contimg.visibilities.baseline_averaging import average

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    gains = interpolate.load(files.read_json(root.image(group, "selection.json")), root.root)
    averaged = average(root.ms(group), gains, field_image.image_plan(settings.imaging, settings.beam), THREADS)
    averaged = sizes.scaled(averaged, int(antennas))
    began = time.process_time()
    with tempfile.TemporaryDirectory() as work:
        made = field_image.make(averaged, Path(work), settings.part(field_image.FieldImageSettings), THREADS)
    described = {
        "cpu_s": time.process_time() - began,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
        "pixels": made.apparent.shape[0],
        "visibilities": averaged.rows.weights.size,
        "bright": len(made.bright),
        "noise_over_thermal": made.noise_jy / averaged.thermal_noise_jy,
    }
    files.write_json(Path(out), described)


def averaged(settings_path: str, group: str, ms: str) -> None:
    """Calibrate and average a group with contimg, and leave the bright sources in it."""
    from contimg.image import field_image
    from contimg.sets import interpolate
    from contimg.visibilities import averaged_ms
    from contimg.visibilities.baseline_averaging import average

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    gains = interpolate.load(files.read_json(root.image(group, "selection.json")), root.root)
    plan = field_image.image_plan(settings.imaging, settings.beam)
    averaged_ms.write(Path(ms), average(root.ms(group), gains, plan, THREADS))


def applied(settings_path: str, group: str, ms: str) -> None:
    """Copy a group's Measurement Set and let CASA apply its set to the copy, as CORRECTED_DATA.

    The weights stay as they are: they are all the same, and so is the noise of calibrated data. CASA's default would
    weight by |g_i·g_j|², which makes the image noisier than it has to be.
    """
    import shutil

    from contimg.visibilities import casa

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    shutil.copytree(root.ms(group), ms)
    selection = files.read_json(root.image(group, "selection.json"))
    folder = (root.root / selection["set"]).parent
    tables = [str(folder / name) for name in ("delay.cal", "bandpass.cal", "gain.cal")]
    casa.tasks().applycal(
        vis=ms, gaintable=tables, interp=["linear"] * 3, applymode="calflag", calwt=False, flagbackup=False
    )


def subtract_bright(ms: str, described: str) -> None:
    """Subtract the bright sources that contimg found from all of a calibrated Measurement Set."""
    from benchmarks import reference

    reference.subtract_bright(Path(ms), files.read_json(Path(described)))


def mosaic(settings_path: str, window: str, directory: str) -> None:
    """Combine the images of a data root into the mosaic of a window, as the job does."""
    from types import SimpleNamespace

    from contimg.mosaic.coadd import ImageInputs
    from contimg.mosaic.mosaic import MosaicProducts, MosaicSettings, mosaics
    from contimg.mosaic.pointings import pointings

    settings = config.load(Path(settings_path))
    root = DataRoot(settings.data_root)
    sidecars = sorted(root.image(window).parent.glob("*.json"))
    parts = ("image.fits", "noise.fits", "pb.fits", "json")
    images = [ImageInputs(*(root.image(path.stem, part) for part in parts)) for path in sidecars]
    Path(directory).mkdir(exist_ok=True)
    output = SimpleNamespace(**{key.name: Path(directory) / key.name for key in fields(MosaicProducts)})
    mosaics(images, pointings(window, sidecars), output, settings.part(MosaicSettings), THREADS)


def runner(settings_path: str, clock_offset_s: str, *options: str) -> None:
    """Run the runner with its clock put forward or back."""
    import logging

    from contimg.core.release import CHECKOUT
    from contimg.ledger.clock_steps import SystemClock
    from contimg.runner import loop

    class Shifted(SystemClock):
        def now(self) -> float:
            return time.time() + float(clock_offset_s)

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    path = Path(settings_path)
    loop.run(CHECKOUT, lambda: config.load(path), path, once="--once" in options, clock=Shifted())


def simulate(antennas: str, channels: str, folder: str) -> None:
    """Simulate a calibrator group for a part of the array."""
    from datetime import date

    import numpy as np

    from benchmarks.data import CALIBRATOR, SEED
    from contimg.simulator import simulator
    from contimg.simulator.scenarios import transit_scenario

    every = simulator.FULL.antennas
    some = np.linspace(0, len(every) - 1, int(antennas)).round().astype(int)
    preset = simulator.Preset(tuple(every[k] for k in some), int(channels))
    scenario = transit_scenario(
        CALIBRATOR,
        date(2026, 1, 12),
        groups=1,
        groups_before=0,
        group_s=preset.length_s,
        min_flux_jy=0.05,
        max_flux_jy=1.0,
        seed=SEED,
    )
    simulator.simulate(
        Path(folder) / "incoming",
        scenario.start,
        1,
        preset=preset,
        sky=scenario.sky,
        declination_deg=scenario.declination_deg,
        seed=SEED,
    )


STEPS = {
    step.__name__: step
    for step in (
        simulate,
        convert,
        by_pyuvdata,
        image,
        image_of_size,
        averaged,
        applied,
        subtract_bright,
        mosaic,
        runner,
    )
}

if __name__ == "__main__":
    STEPS[sys.argv[1]](*sys.argv[2:])
