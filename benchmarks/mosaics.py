"""Mosaic of an hour's full-size images, which are drawn: noise and point sources seen through the primary beam."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from scipy.ndimage import gaussian_filter

from benchmarks import data, processes
from benchmarks.figures import GROUP_S, Figure, of_runs
from contimg.clean import gridding
from contimg.clean.restoring import RestoringBeam, add_sources
from contimg.core import files
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Beam
from contimg.telescope import beam
from contimg.validation import references
from contimg.validation.validation import SourceList

IMAGES = 12
_FIRST, _RA_DEG, _DEC_DEG = "20260112T080000", 120.0, 54.57
_DRIFT_DEG = GROUP_S * 15.0411 / 3600
_PIXEL_RAD = float(np.radians(3.65 / 3600))
_BEAM = RestoringBeam(4.4 * _PIXEL_RAD, 3.6 * _PIXEL_RAD, 0.3)
_NOISE_JY, _FREQUENCY_HZ = 2.5e-4, 1.405e9
_SOURCES, _MIN_SNR, _SEED = 3_000, 7.0, 5
"""Number of sources along the hour, as dense as in NVSS; least signal-to-noise ratio in an image's list."""


def measure(work: Path, runs: int, *, size: int) -> Iterator[Figure]:
    """Combine twelve images of size² pixels of one hour, as the job does, in a process of its own."""
    root = DataRoot(work / "mosaic")
    root.root.mkdir()
    data.write_settings(root)
    _draw(root, size)
    command = [
        sys.executable,
        "-m",
        "benchmarks.steps",
        "mosaic",
        data.settings_path(root),
        _FIRST,
        work / "combined",
    ]
    costs = [processes.run(command, work / "log", to_disk=True) for _ in range(runs)]
    name = f"mosaic of {IMAGES} images of {size}²"
    yield of_runs(name, [cost.wall_s for cost in costs], "s", "≤ 30", **processes.notes("mosaic", costs))


def _draw(root: DataRoot, size: int) -> None:
    """Write the images of an hour with what a mosaic reads: noise, primary beam, sidecar."""
    rng = np.random.default_rng(_SEED)
    ra = np.radians(_RA_DEG + rng.uniform(-4, IMAGES * _DRIFT_DEG + 4, _SOURCES))
    dec = np.radians(_DEC_DEG + rng.uniform(-2, 2, _SOURCES))
    flux_jy = 2.5e-3 * rng.uniform(0.001, 1, _SOURCES) ** -0.9
    seen = beam.of(Beam())
    axis = (np.arange(size) - size // 2) * _PIXEL_RAD
    pb = seen.radial(np.hypot(axis, axis[:, np.newaxis]), _FREQUENCY_HZ).astype(np.float32)
    for number in range(IMAGES):
        group = group_id(group_start(_FIRST) + timedelta(seconds=number * GROUP_S))
        centre = np.radians(_RA_DEG + number * _DRIFT_DEG), np.radians(_DEC_DEG)
        wcs = gridding.coordinates(centre, size, _PIXEL_RAD)
        image = gaussian_filter(rng.standard_normal((size, size), np.float32), 1.6)
        image *= _NOISE_JY / image.std()
        response = seen.radial(beam.separation(*centre, ra, dec), _FREQUENCY_HZ)
        near = beam.separation(*centre, ra, dec) < size * _PIXEL_RAD
        add_sources(image, zip(ra[near], dec[near], (flux_jy * response)[near], strict=True), wcs, _BEAM)
        header = wcs.to_header()
        header["RESTFRQ"] = _FREQUENCY_HZ
        usable = np.where(pb >= 0.1, pb, np.float32(np.nan))
        root.image(group).parent.mkdir(parents=True, exist_ok=True)
        for product, values in (("image.fits", image / usable), ("noise.fits", _NOISE_JY / usable), ("pb.fits", pb)):
            fits.writeto(root.image(group, product), values[np.newaxis, np.newaxis], header)
        listed = (response > 0.5) & (flux_jy * response > _MIN_SNR * _NOISE_JY)
        references.write(
            root.image(group, references.SUFFIX),
            SourceList(ra[listed], dec[listed], flux_jy[listed], np.full(listed.sum(), np.nan)),
            errors_jy=_NOISE_JY / response[listed],
            snr=(flux_jy * response)[listed] / _NOISE_JY,
            response=response[listed],
            frequency_hz=_FREQUENCY_HZ,
            note=group,
        )
        files.write_json(root.image(group, "json"), _sidecar(group, np.degrees(centre), seen.name))


def _sidecar(group: str, centre_deg: np.ndarray, primary_beam: str) -> dict[str, Any]:
    """Content of an image's sidecar, as far as a mosaic reads it."""
    return {
        "group": group,
        "verdict": "fresh",
        "age_hours": 0.5,
        "quality": "clean",
        "reasons": [],
        "set": f"calibration/2026-01-12/{_FIRST}/set.json",
        "beam": {
            "major_arcsec": float(np.degrees(_BEAM.major_rad) * 3600),
            "minor_arcsec": float(np.degrees(_BEAM.minor_rad) * 3600),
            "angle_deg": float(np.degrees(_BEAM.angle_rad)),
        },
        "primary_beam": primary_beam,
        "centre": {"ra_deg": float(centre_deg[0]), "dec_deg": float(centre_deg[1])},
    }
