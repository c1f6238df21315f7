"""Images of a drifting sky made without the pipeline: Gaussian beams on beam-shaped noise, seen through the beam."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Beam
from contimg.mosaic.coadd import ImageInputs
from contimg.telescope import beam
from contimg.telescope.beam import separation

CADENCE_S = 309.24
FREQUENCY_HZ = 1.405e9
BEAM_ARCSEC = 140.0


@dataclass(frozen=True)
class Sky:
    """Point sources: directions (deg) and flux densities (Jy)."""

    ra_deg: np.ndarray
    dec_deg: np.ndarray
    flux_jy: np.ndarray


def groups(first: str, number: int) -> list[str]:
    """Names of consecutive groups."""
    start: datetime = group_start(first)
    return [group_id(start + timedelta(seconds=CADENCE_S * step)) for step in range(number)]


def centre(first: str, group: str, ra_deg: float) -> float:
    """Right ascension (deg) of a group's centre, if the first one's is `ra_deg`."""
    return (ra_deg + (group_start(group) - group_start(first)).total_seconds() * 15.0411 / 3600) % 360


def write_image(
    root: DataRoot,
    group: str,
    ra_deg: float,
    dec_deg: float,
    sky: Sky,
    *,
    size: int = 360,
    field_deg: float = 3.5,
    beam_arcsec: float = BEAM_ARCSEC,
    noise_jy: float = 1e-3,
    verdict: str = "fresh",
    quality: str = "clean",
    seed: int = 0,
) -> ImageInputs:
    """Write a group's image products and sidecar; `noise_jy` is that before the beam correction."""
    pixel = field_deg / size
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], [ra_deg, dec_deg]
    wcs.wcs.crpix, wcs.wcs.cdelt, wcs.wcs.radesys = [size / 2 + 1] * 2, [-pixel, pixel], "ICRS"
    y, x = np.mgrid[:size, :size]
    ra, dec = wcs.wcs_pix2world(x.ravel(), y.ravel(), 0)
    pointing = np.radians(ra_deg), np.radians(dec_deg)
    away = separation(*pointing, np.radians(ra), np.radians(dec)).reshape(x.shape)
    pb = beam.of(Beam()).radial(away, FREQUENCY_HZ)
    sigma = beam_arcsec / 3600 / pixel / np.sqrt(8 * np.log(2))
    random = np.random.default_rng(seed).normal(size=(size, size)).astype(np.float32)
    flat = gaussian_filter(random, sigma)
    flat *= noise_jy / flat.std()
    reach = int(np.ceil(6 * sigma))
    to_source = separation(*pointing, np.radians(sky.ra_deg), np.radians(sky.dec_deg))
    near = to_source < np.radians(field_deg)
    apparent = sky.flux_jy * beam.of(Beam()).radial(to_source, FREQUENCY_HZ)
    source_x, source_y = wcs.wcs_world2pix(sky.ra_deg[near], sky.dec_deg[near], 0)
    for across, up, flux in zip(source_x, source_y, apparent[near], strict=True):
        row, column = round(float(up)), round(float(across))
        if -reach < row < size + reach and -reach < column < size + reach:
            box = tuple(slice(max(at - reach, 0), at + reach + 1) for at in (row, column))
            flat[box] += flux * np.exp(-((x[box] - across) ** 2 + (y[box] - up) ** 2) / 2 / sigma**2)
    header = wcs.to_header()
    header["BUNIT"], header["TELESCOP"], header["RESTFRQ"] = "Jy/beam", "OVRO_MMA", FREQUENCY_HZ
    header["BMAJ"], header["BMIN"], header["BPA"] = beam_arcsec / 3600, beam_arcsec / 3600, 0.0
    start = group_start(group)
    header["DATE-OBS"] = start.strftime("%Y-%m-%dT%H:%M:%S")
    header["DATE-END"] = (start + timedelta(seconds=CADENCE_S)).strftime("%Y-%m-%dT%H:%M:%S")
    inputs = ImageInputs(*(root.image(group, name) for name in ("image.fits", "noise.fits", "pb.fits", "json")))
    inputs.image.parent.mkdir(parents=True, exist_ok=True)
    blank = np.where(pb >= 0.1, 1, np.nan)
    for path, values in ((inputs.image, flat / pb * blank), (inputs.noise, noise_jy / pb * blank), (inputs.pb, pb)):
        fits.PrimaryHDU(values[None, None].astype(np.float32), header).writeto(path, overwrite=True)
    sidecar = {
        "group": group,
        "verdict": verdict,
        "age_hours": 4.2 if verdict == "nearest" else 0.5,
        "quality": quality,
        "reasons": [] if quality == "clean" else ["noise 2.4 times thermal"],
        "set": "calibration/2026-01-12/20260112T084500",
        "beam": {"major_arcsec": beam_arcsec, "minor_arcsec": beam_arcsec, "angle_deg": 0.0},
        "noise_jy": noise_jy,
        "thermal_noise_jy": noise_jy / 1.1,
        "dynamic_range": 1234.0,
        "peak_jy": 1.2,
        "sources": 7,
        "catalogue": None,
        "pixel_arcsec": pixel * 3600,
        "size": size,
        "imager": "contimg",
        "primary_beam": beam.of(Beam()).name,
        "centre": {"ra_deg": ra_deg, "dec_deg": dec_deg},
    }
    write_json(inputs.sidecar, sidecar)
    return inputs


def grid_sky(ra_deg: float, dec_deg: float, width_deg: float, spacing_deg: float, flux_jy: float) -> Sky:
    """Equal sources on a grid around a direction, off the pixels' centres."""
    offsets = np.arange(-width_deg / 2, width_deg / 2, spacing_deg)
    across, up = (array.ravel() for array in np.meshgrid(offsets, np.arange(-1.2, 1.21, spacing_deg)))
    shake = np.random.default_rng(3).uniform(-0.02, 0.02, (2, across.size))
    dec = dec_deg + up + shake[0]
    return Sky((ra_deg + (across + shake[1]) / np.cos(np.radians(dec))) % 360, dec, np.full(across.size, flux_jy))
