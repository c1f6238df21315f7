"""Imaging: calibrated, averaged and imaged by contimg, against WSClean on all data, and itself without averaging."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import maximum_filter

from benchmarks import data, processes
from benchmarks.figures import Figure, of_runs
from benchmarks.processes import Cost, notes
from contimg import files
from contimg.paths import DataRoot
from contimg.science import field_image, wsclean
from contimg.science.field_image import FieldImage
from contimg.science.imager import CleanOptions
from contimg.science.noise import robust_noise

_MIN_SNR, _MIN_RESPONSE = 50.0, 0.5
"""Sources that are compared, in the half-power beam."""
_DEFAULT_GRIDDING_ACCURACY = "1e-4"
"""WSClean's own."""
_NO_LOSS = 1e-9
"""A smearing limit that leaves nothing to average."""


def keep(made: FieldImage, directory: Path) -> None:
    """Write what is compared: the image as seen through the beam, and its primary beam."""
    for name, values in (("apparent", made.apparent), ("pb", made.primary_beam)):
        fits.writeto(directory / f"{name}.fits", values, made.wcs.to_header(), overwrite=True)
    files.write_json(directory / "image.json", {"pixel_rad": made.pixel_rad, "noise_jy": made.noise_jy})


def measure(root: DataRoot, group: str, work: Path, runs: int, width_deg: float) -> Iterator[Figure]:
    """Image in each way, `width_deg` wide; the images must agree. The group's calibration must be selected."""
    options = {"field_of_view_deg": width_deg}
    data.write_settings(root, imaging=options)
    ours = [_image(root, group, work, f"image-{number}") for number in range(runs)]
    applied = work / "applied.ms"
    command = [sys.executable, "-m", "benchmarks.steps", "applied", data.settings_path(root), group, applied]
    processes.run(command, work / "log")
    pixel_rad = files.read_json(work / "image-0" / "image.json")["pixel_rad"]
    size = fits.getheader(work / "image-0" / "apparent.fits")["NAXIS1"]
    clean = field_image.clean_options(data.settings(root), 2, size, pixel_rad)
    for how, accuracy, bound in (
        ("all data", _DEFAULT_GRIDDING_ACCURACY, "≥ 4"),
        ("all data, gridded as coarsely as our rest without bright sources", None, ""),
    ):
        command = _on_all_data(applied, work / f"all-{accuracy}", clean, accuracy)
        reference = processes.run(command, work / "log")
        yield of_runs(
            f"calibrate, average, image {size}², against WSClean on {how}",
            [reference.wall_s / one.wall_s for one in ours],
            "times faster",
            bound,
            **notes("contimg", ours),
            **notes("wsclean", [reference]),
        )
    shutil.rmtree(applied)
    prefix = work / f"all-{_DEFAULT_GRIDDING_ACCURACY}"
    theirs, wcs = field_image.read(Path(f"{prefix}-image.fits"))
    residual, _ = field_image.read(Path(f"{prefix}-residual.fits"))
    noise_jy = robust_noise(residual[fits.getdata(work / "image-0" / "pb.fits") > _MIN_RESPONSE])
    yield from _agreement(work / "image-0", theirs, wcs, noise_jy, "WSClean's on all data")

    data.write_settings(root, imaging={**options, "smearing_limit": _NO_LOSS})
    plain = _image(root, group, work, "plain")
    yield of_runs(
        f"the same without averaging, image {size}²",
        [plain.wall_s / one.wall_s for one in ours],
        "times as long",
        **notes("plain", [plain]),
    )
    image, header = fits.getdata(work / "plain" / "apparent.fits", header=True)
    noise_jy = files.read_json(work / "plain" / "image.json")["noise_jy"]
    yield from _agreement(work / "image-0", image, WCS(header), noise_jy, "that without averaging")


def _image(root: DataRoot, group: str, work: Path, name: str) -> Cost:
    """Image a group with contimg into work/name."""
    folder = work / name
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.steps", "image", data.settings_path(root), group, folder]
    cost = processes.run(command, work / "log")
    shutil.rmtree(folder / "work")
    return cost


def _on_all_data(ms: Path, prefix: Path, clean: CleanOptions, accuracy: str | None) -> list[str]:
    """WSClean's command line on the unaveraged data, with the settings that contimg's image has, but for accuracy.

    contimg grids coarsely because it has taken out what is bright; here all is in the data.
    """
    command = wsclean.command(ms, prefix, clean)
    command[command.index("DATA")] = "CORRECTED_DATA"
    if accuracy:
        command[command.index("-wgridder-accuracy") + 1] = accuracy
    return command


def _agreement(ours: Path, theirs: np.ndarray, wcs: WCS, noise_jy: float, whose: str) -> Iterator[Figure]:
    """Compare peaks where our image has bright sources, and the noises."""
    image, header = fits.getdata(ours / "apparent.fits", header=True)
    response = fits.getdata(ours / "pb.fits")
    our_noise_jy = files.read_json(ours / "image.json")["noise_jy"]
    bright = (image > _MIN_SNR * our_noise_jy) & (response > _MIN_RESPONSE)
    rows, columns = np.nonzero((image == maximum_filter(image, 7)) & bright)
    across, up = wcs.world_to_pixel(WCS(header).pixel_to_world(columns, rows))
    there = zip(up.round().astype(int), across.round().astype(int), strict=True)
    pairs = zip(zip(rows, columns, strict=True), there, strict=True)
    ratios = np.array([_peak(image, *one) / _peak(theirs, *other) for one, other in pairs])
    yield Figure(
        f"peak fluxes, median difference to {whose}",
        float(abs(np.median(ratios) - 1) * 100),
        "%",
        "≤ 1",
        notes={
            "sources": len(ratios),
            "scatter_percent": float(np.std(ratios) * 100),
            "median_deviation_percent": float(np.median(abs(ratios - 1)) * 100),
        },
    )
    ratio = float(our_noise_jy / noise_jy)
    yield Figure(f"noise, difference to {whose}", abs(ratio - 1) * 100, "%", "≤ 5", notes={"ratio": ratio})


def _peak(image: np.ndarray, row: int, column: int) -> float:
    """Top of the Gaussian through the highest pixel near a place and its neighbours."""
    box = image[row - 3 : row + 4, column - 3 : column + 4]
    up, across = np.unravel_index(box.argmax(), box.shape)
    row, column = row - 3 + up, column - 3 + across
    top = float(np.log(image[row, column]))
    for pixels in (image[row - 1 : row + 2, column], image[row, column - 1 : column + 2]):
        before, middle, after = np.log(pixels)
        top += (before - after) ** 2 / (16 * middle - 8 * (before + after))
    return float(np.exp(top))
