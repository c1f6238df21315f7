"""Imaging: calibrated, averaged and imaged by contimg, against WSClean on all data, and itself without averaging."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import maximum_filter

from benchmarks import data, processes
from benchmarks.figures import Figure, of_runs
from benchmarks.processes import Cost, notes
from benchmarks.steps import THREADS
from contimg.clean import imager, wsclean
from contimg.clean.noise import robust_noise
from contimg.clean.options import CleanOptions
from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.image import field_image
from contimg.image.field_image import FieldImage

_MIN_SNR, _MIN_RESPONSE = 50.0, 0.5
"""Sources that are compared, in the half-power beam."""
_DEFAULT_GRIDDING_ACCURACY = "1e-4"
"""WSClean's own."""
_NO_LOSS = 1e-9
"""A smearing limit that leaves nothing to average."""


def keep(made: FieldImage, directory: Path) -> None:
    """Write what is compared: the image as seen through the beam, its primary beam, the fitted sources."""
    for name, values in (("apparent", made.apparent), ("pb", made.primary_beam)):
        fits.writeto(directory / f"{name}.fits", values, made.wcs.to_header(), overwrite=True)
    described = {"pixel_rad": made.pixel_rad, "noise_jy": made.noise_jy, "frequency_hz": made.frequency_hz}
    files.write_json(directory / "image.json", {**described, "bright": [asdict(one) for one in made.bright]})


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
    settings = data.settings(root)
    clean = field_image.clean_options(settings.imaging, settings.limits, THREADS, size, pixel_rad)
    on_all = _wsclean(applied, work / "all", clean, column="CORRECTED_DATA", accuracy=_DEFAULT_GRIDDING_ACCURACY)
    reference = processes.run(on_all, work / "log")
    yield _speed(f"calibrate, average, image {size}², against WSClean on all data", ours, reference, "≥ 9")
    theirs, wcs = imager.read(work / "all-image.fits")
    yield _peaks(work / "image-0", theirs, wcs, "WSClean's on all data")
    all_jy = _residual_noise_jy(work, "all")
    yield _noise(_our_noise_jy(work / "image-0"), all_jy, "WSClean's on all data", "≤ 1.02")

    averaged = work / "averaged.ms"
    command = [sys.executable, "-m", "benchmarks.steps", "averaged", data.settings_path(root), group, averaged]
    averaging = processes.run(command, work / "log")
    on_averages = _wsclean(averaged, work / "averages", clean, accuracy=_DEFAULT_GRIDDING_ACCURACY)
    cleaning = processes.run(on_averages, work / "log")
    what = "only calibrated and averaged by contimg, imaged by WSClean"
    yield Figure(
        f"{what}: speed, against all data",
        reference.wall_s / (averaging.wall_s + cleaning.wall_s),
        "times faster",
    )
    image, _ = imager.read(work / "averages-image.fits")
    yield _peaks(work / "image-0", theirs, wcs, "WSClean's on all data", what=what, image=image)
    yield _noise(_residual_noise_jy(work, "averages"), all_jy, "WSClean's on all data", "≤ 1.02", what=what)

    command = [sys.executable, "-m", "benchmarks.steps", "subtract_bright", applied, work / "image-0" / "image.json"]
    processes.run(command, work / "log")
    reference = processes.run(_wsclean(applied, work / "rest", clean, column="CORRECTED_DATA"), work / "log")
    whose = "WSClean on all data less the bright sources"
    yield _speed(f"the same, against {whose}, gridded as coarsely", ours, reference)
    yield _noise(_our_noise_jy(work / "image-0"), _residual_noise_jy(work, "rest"), whose, "≤ 1.02")
    shutil.rmtree(applied)

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
    yield _peaks(work / "image-0", image, WCS(header), "that without averaging")
    yield _noise(_our_noise_jy(work / "image-0"), noise_jy, "that without averaging", "≤ 1.02")


def _speed(name: str, ours: Sequence[Cost], reference: Cost, bound: str = "") -> Figure:
    ratios = [reference.wall_s / one.wall_s for one in ours]
    return of_runs(name, ratios, "times faster", bound, **notes("contimg", ours), **notes("wsclean", [reference]))


def _image(root: DataRoot, group: str, work: Path, name: str) -> Cost:
    """Image a group with contimg into work/name."""
    folder = work / name
    folder.mkdir()
    command = [sys.executable, "-m", "benchmarks.steps", "image", data.settings_path(root), group, folder]
    cost = processes.run(command, work / "log")
    shutil.rmtree(folder / "work")
    return cost


def _wsclean(
    ms: Path, prefix: Path, clean: CleanOptions, *, column: str = "DATA", accuracy: str | None = None
) -> list[str]:
    """WSClean's command line, with the settings that contimg's image has.

    contimg grids coarsely because it has taken out what is bright; where all is in the data, another accuracy is
    given.
    """
    command = wsclean.command(ms, prefix, clean)
    command[command.index("DATA")] = column
    if accuracy:
        command[command.index("-wgridder-accuracy") + 1] = accuracy
    return command


def _residual_noise_jy(work: Path, prefix: str) -> float:
    """Noise of WSClean's residual image in the half-power beam (Jy/beam)."""
    residual, _ = imager.read(work / f"{prefix}-residual.fits")
    return robust_noise(residual[fits.getdata(work / "image-0" / "pb.fits") > _MIN_RESPONSE])


def _our_noise_jy(ours: Path) -> float:
    """Noise of an image of ours (Jy/beam)."""
    return float(files.read_json(ours / "image.json")["noise_jy"])


def _noise(noise_jy: float, other_jy: float, whose: str, bound: str = "", *, what: str = "") -> Figure:
    """Compare two noises (Jy/beam)."""
    name = f"{what}{': ' if what else ''}noise, against {whose}"
    return Figure(name, noise_jy / other_jy, "", bound)


def _peaks(
    ours: Path,
    theirs: np.ndarray,
    wcs: WCS,
    whose: str,
    *,
    what: str = "",
    image: np.ndarray | None = None,
) -> Figure:
    """Compare peaks where our image has bright sources: its own, or those of another image on the same pixels."""
    apparent, header = fits.getdata(ours / "apparent.fits", header=True)
    image = apparent if image is None else image
    bright = (apparent > _MIN_SNR * _our_noise_jy(ours)) & (fits.getdata(ours / "pb.fits") > _MIN_RESPONSE)
    rows, columns = np.nonzero((apparent == maximum_filter(apparent, 7)) & bright)
    across, up = wcs.world_to_pixel(WCS(header).pixel_to_world(columns, rows))
    there = zip(up.round().astype(int), across.round().astype(int), strict=True)
    pairs = zip(zip(rows, columns, strict=True), there, strict=True)
    ratios = np.array([_peak(image, *one) / _peak(theirs, *other) for one, other in pairs])
    return Figure(
        f"{what}{': ' if what else ''}peak fluxes, median difference to {whose}",
        float(abs(np.median(ratios) - 1) * 100),
        "%",
        "≤ 0.5",
        notes={
            "sources": len(ratios),
            "scatter_percent": float(np.std(ratios) * 100),
            "median_deviation_percent": float(np.median(abs(ratios - 1)) * 100),
        },
    )


def _peak(image: np.ndarray, row: int, column: int) -> float:
    """Top of the Gaussian through the highest pixel near a place and its neighbours."""
    box = image[row - 3 : row + 4, column - 3 : column + 4]
    up, across = np.unravel_index(box.argmax(), box.shape)
    row, column = row - 3 + int(up), column - 3 + int(across)
    top = float(np.log(image[row, column]))
    for pixels in (image[row - 1 : row + 2, column], image[row, column - 1 : column + 2]):
        before, middle, after = np.log(pixels)
        top += (before - after) ** 2 / (16 * middle - 8 * (before + after))
    return float(np.exp(top))
