"""Compilation of the numerical kernels (Numba) ahead of the first job, at set-up.

A small simulated group goes through the functions of the stages, side by side where they do not need each other, so
that the kernels are compiled for the very types of arrays that jobs call them with. Numba keeps them beside the
modules, or where that folder cannot be written, in the user's cache, which for jobs is in the data root.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from contimg.core import config, files
from contimg.core.config import Settings
from contimg.core.paths import DataRoot
from contimg.deploy.checks import simulate_small_group
from contimg.visibilities.subprocess_call import call

_SOURCES = "ra_deg,dec_deg,flux_jy\n"
"""Head of the sky catalogue."""


def compile_all() -> None:
    """Compile all kernels.

    Raises
    ------
    ContimgError
        If a stage fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = DataRoot(Path(folder))
        source = simulate_small_group(root.incoming)
        catalogue = root.root / "catalogue.csv"
        catalogue.write_text(f"{_SOURCES}{source.ra_deg},{source.dec_deg},{source.flux_jy}\n", "utf-8")
        settings = config.validated({"data_root": folder, "sky_catalogue": {"path": str(catalogue)}}, {})
        group = call(1, _convert, settings)
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(call, 1, work, settings, group) for work in (_solve, _image, _mosaic)]:
                done.result()


def _convert(settings: Settings) -> str:
    """Convert the group; returns its name."""
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.ingest import groups

    root = DataRoot(settings.data_root)
    (group,) = groups.scan(root, settings.ingest, datetime.now(UTC) + timedelta(days=1)).groups
    root.ms(group.name).parent.mkdir(parents=True)
    convert(root.manifest(group.name), root.ms(group.name), settings.part(ConversionSettings), 1)
    return group.name


def _solve(settings: Settings, group: str) -> None:
    from contimg.calibrators.detect import DetectionSettings, detect
    from contimg.image.field_image import FieldCalibrationSettings
    from contimg.solve.solve import solve

    root = DataRoot(settings.data_root)
    calibrator = root.root / "calibrator.json"
    files.write_json(calibrator, detect(root.manifest(group), settings.part(DetectionSettings)))
    solve(root.ms(group), calibrator, root.root / "set", settings.part(FieldCalibrationSettings), 1)


def _image(settings: Settings, group: str) -> None:
    from contimg.clean.sources import PointSource
    from contimg.image import field_gains, field_image, source_subtraction
    from contimg.visibilities.baseline_averaging import average

    root, plan = DataRoot(settings.data_root), field_image.image_plan(settings.imaging, settings.beam)
    averaged = average(root.ms(group), None, plan, 1, polarizations=True)
    sources = field_gains.field_sources(averaged, settings.sky_catalogue)
    if sources is not None:
        field_gains.apply(averaged, field_gains.solve(averaged, sources, 1))
        ra, dec, flux = (float(column[0]) for column in (sources.ra_deg, sources.dec_deg, sources.flux_jy))
        source_subtraction.subtract(averaged, [], [PointSource(ra, dec, flux, 0, 0)], plan=plan, threads=1)
    field_image.make(averaged, root.root / "work", settings.part(field_image.FieldImageSettings), 1)


def _mosaic(_: Settings, __: str) -> None:
    from contimg.mosaic import reprojection

    values = np.ones((64, 64), np.float32)
    image, weight, coverage = (np.zeros((96, 96), kind)[:64, :64] for kind in (np.float32, np.float32, np.int16))
    rows, columns = np.mgrid[:5, :5] * float(reprojection.LOOKUP_STEP)
    part = image, weight, coverage
    reprojection.add(reprojection.spline_coefficients(values), values.copy(), (columns, rows), part)
