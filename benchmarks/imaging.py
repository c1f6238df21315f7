"""Imaging: calibrated, averaged and imaged by contimg, against WSClean on all the calibrated data."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from benchmarks import data, processes
from benchmarks.figures import Figure, of_runs
from contimg import files
from contimg.paths import DataRoot
from contimg.science import field_image, wsclean
from contimg.science.field_image import FieldImage
from contimg.science.noise import robust_noise

_MIN_SNR, _MIN_RESPONSE = 50.0, 0.5
"""Sources that are compared, in the half-power beam."""
_DEFAULT_GRIDDING_ACCURACY = "1e-4"
"""WSClean's own."""


def keep(made: FieldImage, directory: Path) -> None:
    """Write what is compared: the image as seen through the beam, and its primary beam."""
    for name, values in (("apparent", made.apparent), ("pb", made.primary_beam)):
        fits.writeto(directory / f"{name}.fits", values, made.wcs.to_header(), overwrite=True)
    files.write_json(directory / "image.json", {"pixel_rad": made.pixel_rad, "noise_jy": made.noise_jy})


def measure(root: DataRoot, group: str, work: Path, runs: int) -> Iterator[Figure]:
    """Image in both ways; the images must agree."""
    arguments = [data.settings_path(root), group]
    ours = []
    for number in range(runs):
        folder = work / f"image-{number}"
        folder.mkdir()
        command = [sys.executable, "-m", "benchmarks.steps", "image", *arguments, folder]
        ours.append(processes.run(command, work / "log"))
    applied = work / "applied.ms"
    processes.run([sys.executable, "-m", "benchmarks.steps", "applied", *arguments, applied], work / "log")
    pixel_rad = files.read_json(work / "image-0" / "image.json")["pixel_rad"]
    size = fits.getheader(work / "image-0" / "apparent.fits")["NAXIS1"]
    command = _on_all_data(applied, work / "all", data.settings(root), size, pixel_rad)
    reference = processes.run(command, work / "log")
    peaks, noise = _compared(work)
    yield of_runs(
        f"calibrate, average, image {size}², against WSClean on all data",
        [reference.wall_s / one.wall_s for one in ours],
        "times faster",
        "≥ 4",
        contimg_s=[round(one.wall_s, 1) for one in ours],
        contimg_cpu_s=[round(one.cpu_s, 1) for one in ours],
        contimg_peak_gb=round(max(one.peak_bytes for one in ours) / 1e9, 2),
        wsclean_s=round(reference.wall_s, 1),
        wsclean_cpu_s=round(reference.cpu_s, 1),
        wsclean_peak_gb=round(reference.peak_bytes / 1e9, 2),
    )
    yield Figure(
        "peak fluxes of both, median difference",
        float(abs(np.median(peaks) - 1) * 100),
        "%",
        "≤ 1",
        notes={"sources": len(peaks), "scatter_percent": float(np.std(peaks) * 100)},
    )
    yield Figure("noise, against that of WSClean on all data", noise, "times", "≤ 1.05")


def _on_all_data(ms: Path, prefix: Path, settings, size: int, pixel_rad: float) -> list[str]:
    """WSClean's command line on the unaveraged data, with the settings that contimg's image has."""
    clean = field_image.clean_options(settings, 2, size, pixel_rad)
    command = wsclean.command(ms, prefix, clean)
    command[command.index("DATA")] = "CORRECTED_DATA"
    # contimg grids coarsely because it has taken out what is bright; here all is in the data.
    command[command.index("-wgridder-accuracy") + 1] = _DEFAULT_GRIDDING_ACCURACY
    return command


def _compared(work: Path) -> tuple[np.ndarray, float]:
    """Peaks of ours over theirs where ours has bright sources, and the ratio of the noises."""
    ours = fits.getdata(work / "image-0" / "apparent.fits")
    response = fits.getdata(work / "image-0" / "pb.fits")
    theirs, wcs = field_image.read(work / "all-image.fits")
    residual, _ = field_image.read(work / "all-residual.fits")
    noise_jy = files.read_json(work / "image-0" / "image.json")["noise_jy"]
    same = WCS(fits.getheader(work / "image-0" / "apparent.fits"))
    if not np.allclose(same.wcs.crval, wcs.wcs.crval) or ours.shape != theirs.shape:
        raise processes.BenchmarkError("the two images are not of the same field")
    box = np.lib.stride_tricks.sliding_window_view(np.pad(ours, 3), (7, 7)).max(axis=(2, 3))
    chosen = (ours == box) & (ours > _MIN_SNR * noise_jy) & (response > _MIN_RESPONSE)
    peaks = [
        ours[row - 3 : row + 4, column - 3 : column + 4].max()
        / theirs[row - 3 : row + 4, column - 3 : column + 4].max()
        for row, column in np.argwhere(chosen)
    ]
    return np.array(peaks), float(noise_jy / robust_noise(residual[response > _MIN_RESPONSE]))
