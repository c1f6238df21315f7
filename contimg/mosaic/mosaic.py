"""Mosaic of a window: its images are co-added (`coadd`), described, validated, written.

Images are not convolved to a common beam. A point source's peak is its flux density in each image, for any beam, as
is a weighted mean of peaks. Only shapes mix: the beam in the header is the weighted mean of the beams' second
moments, and `beam_spread` in the sidecar, the spread of the beams' areas, bounds the error of integrated fluxes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
from astropy.io import fits

from contimg.catalogues.source import REFERENCE_FREQUENCY_HZ
from contimg.clean.noise import robust_noise
from contimg.core import trace
from contimg.core.errors import ConfigError, ContimgError, NoUsableDataError
from contimg.core.paths import DataRoot, group_of, group_start, in_window
from contimg.core.sections import Limits, Mosaic, SkyCatalogue
from contimg.figures import quicklook
from contimg.fits import plane
from contimg.ingest.manifest import names_in
from contimg.ingest.pointing_track import SAME_POINTING_DEG, Drift
from contimg.mosaic.coadd import Grid, ImageInputs, MosaicInput, MosaicSums, add, make_grid, read_input, trimmed
from contimg.mosaic.mosaic_validation import validate_mosaic
from contimg.mosaic.pointings import validation_failures
from contimg.validation import overlap, page, references

VERDICTS = ("fresh", "field", "nearest", "stale")
"""Calibration verdicts from best to worst."""

_BYTES_PER_PIXEL = 4 + 4 + 2
_WORKING_BYTES = 1_000_000_000
"""Memory (bytes) of one image of 4096² pixels and the strips at work, besides the mosaic."""
_SAMPLES = 4_000_000
"""Approximate number of pixels from which the noise is measured."""


@dataclass(frozen=True)
class MosaicSettings:
    """Settings of a mosaic: data root with manifests and source lists, co-adding, memory, catalogue of the check."""

    data_root: Path
    mosaic: Mosaic
    limits: Limits
    sky_catalogue: SkyCatalogue


@dataclass(frozen=True)
class MosaicProducts:
    """Paths of the mosaic (Jy/beam), its weight (beam²/Jy²), number of images, picture and validation page."""

    image: Path
    weight: Path
    coverage: Path
    png: Path
    validation: Path


def mosaics(
    images: Sequence[ImageInputs],
    names: Mapping[str, Sequence[str]],
    output: SimpleNamespace,
    settings: MosaicSettings,
    threads: int,
) -> list[dict[str, Any]]:
    """Combine the images of a window: a mosaic for each of its pointings; returns their sidecars in that order.

    Parameters
    ----------
    images
        Images of the window.
    names
        Mosaics with their groups, as `contimg.mosaic.pointings` names them.
    output
        Paths by name: plain for the first mosaic, `mosaic/name` for a further mosaic.
    settings, threads
        As for `mosaic`.

    Raises
    ------
    ContimgError
        From `mosaic`.
    """
    contents = []
    for number, (name, groups) in enumerate(names.items()):
        own = [paths for paths in images if group_of(paths.sidecar) in groups]
        outputs = (f"{name}/{key.name}" if number else key.name for key in fields(MosaicProducts))
        products = MosaicProducts(*(getattr(output, key) for key in outputs))
        elsewhere = {other: names[other] for other in names if other != name}
        contents.append(mosaic(own, products, settings, name, threads, elsewhere=elsewhere))
    return contents


def mosaic(
    images: Sequence[ImageInputs],
    outputs: MosaicProducts,
    settings: MosaicSettings,
    name: str,
    threads: int,
    *,
    elsewhere: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Combine the images of a window, or of a single pointing in it.

    The value of a pixel is Σ w·I / Σ w over the images whose primary beam there is at least `mosaic.min_pb`, with
    w = 1/noise²; as noise is that of the flux-corrected image, w is PB²/σ².

    Parameters
    ----------
    images
        Images of the mosaic, at least one.
    outputs
        Paths of the products.
    settings
        The manifests in the data root give the window's groups.
    name
        Name of the mosaic: that of its window, with the declination of a further pointing.
    threads
        Threads of the job.
    elsewhere
        Other mosaics of the same window, with their groups.

    Returns
    -------
    dict
        Content of the sidecar: groups used and missing, verdict and quality (the worst of the images'), noise, depth,
        area, peak, beam, centre, agreement of the images where they overlap, the other mosaics of its window.

    Raises
    ------
    NoUsableDataError
        If no image has a usable pixel.
    ConfigError
        If the window's grid does not fit in `limits.mem_mb`.
    ToolFailedError
        If an image is not a whole FITS image.
    """
    every = sorted((read_input(paths) for paths in images), key=lambda member: member.group)
    failed = {member.group: failures for member in every if (failures := validation_failures(member.sidecar))}
    members = [member for member in every if member.group not in failed]
    if every and not members:
        raise NoUsableDataError(f"mosaic {name}: all of its {len(every)} images failed validation; none is made")
    if not members:
        raise NoUsableDataError(f"mosaic {name}: has no images; it is due again when one of its groups has one")
    grid = make_grid(members)
    _refuse_if_too_large(grid, settings.limits, name)
    sums = MosaicSums(
        np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.int16)
    )
    with trace.step("add images"):
        shares = {member.group: add(member, grid, sums, settings.mosaic.min_pb, threads) for member in members}
    used = [member for member in members if shares[member.group] > 0]
    if not used:
        raise NoUsableDataError(f"mosaic {name}: none of its {len(members)} images has a usable pixel; none is made")
    grid, sums = trimmed(grid, sums)
    covered = sums.weight > 0
    np.divide(sums.image, sums.weight, out=sums.image, where=covered)
    sums.image[~covered] = np.nan
    blank = [member.group for member in members if member not in used]
    content = _description(used, shares, grid, sums, settings=settings.mosaic, name=name)
    content["other_pointings"] = sorted(elsewhere)
    declination_deg = content["centre"]["dec_deg"] if elsewhere else None
    known = {*blank, *failed, *_groups_of_window(DataRoot(settings.data_root), name, declination_deg)}
    content["missing"] = sorted(known - {member.group for member in used} - {*chain(*elsewhere.values())})
    content["reasons"] += [f"the image of {group} has no usable pixel" for group in blank]
    content["reasons"] += [
        f"the image of {group} is left out: validation failed: {failures}" for group, failures in failed.items()
    ]
    lists = [
        (member.paths.sidecar.with_name(f"{member.group}.{references.SUFFIX}"), member.sidecar) for member in used
    ]
    with trace.step("validate"):
        compared = overlap.compare(overlap.read_all(lists))
        content["overlap"] = compared.to_json()
        validation = validate_mosaic(
            sums,
            grid,
            content,
            compared,
            frequency_hz=_frequency_hz(used),
            root=DataRoot(settings.data_root),
            catalogue=settings.sky_catalogue,
        )
    content["validation"] = validation.to_json()
    content["reasons"] += [f"validation: {reason}" for reason in content["validation"]["reasons"]]
    content["quality"] = "degraded" if content["reasons"] else "clean"
    header = _header(used, grid, content)
    with trace.step("write"), ThreadPoolExecutor(threads) as pool:
        written = []
        for path, values, unit in (
            (outputs.image, sums.image, "Jy/beam"),
            (outputs.weight, sums.weight, "beam2/Jy2"),
            (outputs.coverage, sums.coverage, ""),
        ):
            header["BUNIT"] = unit
            product = fits.PrimaryHDU(values, header.copy())
            written.append(pool.submit(product.writeto, path, overwrite=True, checksum=True))
        page.write(outputs.validation, name, validation, content)
        for pending in written:  # until then their values are in another byte order at times
            pending.result()
        quicklook.mosaic_png(plane.Plane(sums.image, grid.wcs, header), sums.coverage, outputs.png, content)
    return content


def _frequency_hz(used: Sequence[MosaicInput]) -> float:
    """Mean frequency of the images."""
    known = [member.header["RESTFRQ"] for member in used if "RESTFRQ" in member.header]
    return float(np.mean(known)) if known else REFERENCE_FREQUENCY_HZ


def _refuse_if_too_large(grid: Grid, limits: Limits, name: str) -> None:
    needed_mb = (math.prod(grid.shape) * _BYTES_PER_PIXEL + _WORKING_BYTES) / 1e6
    if needed_mb > limits.mem_mb:
        raise ConfigError(
            f"mosaic.window_minutes: the mosaic {name} of {grid.shape[1]} × {grid.shape[0]} pixels needs "
            f"{needed_mb:.0f} MB and limits.mem_mb is {limits.mem_mb}; none is made until one is changed"
        )


def _groups_of_window(root: DataRoot, name: str, declination_deg: float | None) -> list[str]:
    """Groups with a manifest in a mosaic's window; with a declination (deg), the groups of its pointing alone."""
    groups = [group for group in names_in(root.groups) if in_window(group, name)]
    if declination_deg is None:
        return groups
    return [group for group in groups if _points_at(root.manifest(group), declination_deg)]


def _points_at(manifest: Path, declination_deg: float) -> bool:
    """Whether a group was observed at a declination (deg), by its manifest; True if unknown."""
    try:
        return abs(Drift.of_group(manifest).declination_deg - declination_deg) <= SAME_POINTING_DEG
    except (ContimgError, OSError, ValueError):
        return True


def _description(
    used: Sequence[MosaicInput],
    shares: dict[str, float],
    grid: Grid,
    sums: MosaicSums,
    *,
    settings: Mosaic,
    name: str,
) -> dict[str, Any]:
    """Content of the sidecar, except the missing groups."""
    depth = float(1 / np.sqrt(sums.weight.max()))
    ratio = _noise_over_expected(sums)
    worst = max(used, key=lambda member: (VERDICTS.index(member.sidecar["verdict"]), member.sidecar["age_hours"]))
    reasons = [
        f"{member.group}: {reason}"
        for member in used
        if member.sidecar["quality"] == "degraded"
        for reason in member.sidecar["reasons"] or ["degraded"]
    ]
    beams = {member.group: member.sidecar.get("primary_beam", "unknown") for member in used}
    if len(set(beams.values())) > 1:
        named = (f"{name}: {', '.join(g for g in beams if beams[g] == name)}" for name in sorted(set(beams.values())))
        listed = "; ".join(named)
        reasons.append(f"its images were corrected for different primary beams ({listed})")
    limit = settings.max_noise_over_expected
    if ratio > limit:
        reasons.append(f"its noise is {ratio:.2f} times what its images' noise makes of it (limit {limit:g})")
    row, column = divmod(int(np.nanargmax(sums.image)), grid.shape[1])
    ra, dec = grid.wcs.wcs_pix2world([[column, row]], 0)[0]
    middle = grid.wcs.wcs_pix2world([[(grid.shape[1] - 1) / 2, (grid.shape[0] - 1) / 2]], 0)[0]
    pixel = plane.pixel_deg(grid.wcs)
    return {
        "window": name,
        "groups": [member.group for member in used],
        "missing": [],
        "sets": sorted({member.sidecar["set"] for member in used}),
        "verdict": worst.sidecar["verdict"],
        "age_hours": max(member.sidecar["age_hours"] for member in used),
        "quality": "degraded" if reasons else "clean",
        "reasons": reasons,
        "primary_beam": ", ".join(sorted(set(beams.values()))),
        "noise_jy": depth * ratio,
        "depth_jy": depth,
        "noise_over_expected": ratio,
        "peak_jy": float(sums.image[row, column]),
        "peak_position": {"ra_deg": float(ra), "dec_deg": float(dec)},
        "area_deg2": int(np.count_nonzero(sums.coverage)) * pixel**2,
        "coverage_max": int(sums.coverage.max()),
        **_beam(used, shares),
        "centre": {"ra_deg": float(middle[0]), "dec_deg": float(middle[1])},
        "size": [grid.shape[1], grid.shape[0]],
        "pixel_arcsec": pixel * 3600,
    }


def _noise_over_expected(sums: MosaicSums) -> float:
    """Robust standard deviation of image × √weight, which is 1 where the noise agrees with the weights.

    Measured where the weight is at least half its maximum, on evenly spread pixels.
    """
    step = max(1, sums.image.size // _SAMPLES)
    image, weight = sums.image.ravel()[::step], sums.weight.ravel()[::step]
    deep = weight >= weight.max() / 2
    return robust_noise(image[deep] * np.sqrt(weight[deep]))


def _beam(used: Sequence[MosaicInput], shares: dict[str, float]) -> dict[str, Any]:
    """Beam of the weighted mean second moments, and spread of the images' beam areas (fraction)."""
    moments = np.zeros((2, 2))
    areas = []
    for member in used:
        beam = member.sidecar["beam"]
        angle = math.radians(beam["angle_deg"])
        # Rows: major and minor axis; columns: east and north.
        axes = np.array([[math.sin(angle), math.cos(angle)], [math.cos(angle), -math.sin(angle)]])
        squares = np.diag([beam["major_arcsec"] ** 2, beam["minor_arcsec"] ** 2])
        moments += shares[member.group] * axes.T @ squares @ axes
        areas.append(beam["major_arcsec"] * beam["minor_arcsec"])
    values, vectors = np.linalg.eigh(moments / sum(shares.values()))
    east, north = vectors[:, 1]
    return {
        "beam": {
            "major_arcsec": float(math.sqrt(values[1])),
            "minor_arcsec": float(math.sqrt(values[0])),
            "angle_deg": (math.degrees(math.atan2(east, north)) + 90) % 180 - 90,
        },
        "beam_spread": (max(areas) - min(areas)) / float(np.mean(areas)),
    }


def _header(used: Sequence[MosaicInput], grid: Grid, content: dict[str, Any]) -> fits.Header:
    """FITS header, complete except for BUNIT."""
    first, last = used[0].header, used[-1].header
    header = grid.wcs.to_header()
    header["BUNIT"] = ""
    beam = content["beam"]
    header["BMAJ"] = (beam["major_arcsec"] / 3600, "[deg] mean over the images")
    header["BMIN"] = (beam["minor_arcsec"] / 3600, "[deg]")
    header["BPA"] = (beam["angle_deg"], "[deg] east of north")
    header["BTYPE"] = "Intensity"
    header["OBJECT"] = content["window"]
    for key in ("TELESCOP", "INSTRUME"):
        if key in first:
            header[key] = first[key]
    header["RESTFRQ"] = (_frequency_hz(used), "[Hz] centre of the band")
    header["TIMESYS"] = "UTC"
    start = f"{group_start(used[0].group):%Y-%m-%dT%H:%M:%S}"
    header["DATE-OBS"] = (first.get("DATE-OBS", start), "start of the first group")
    header["DATE-BEG"] = header["DATE-OBS"]
    if "DATE-END" in last:
        header["DATE-END"] = (last["DATE-END"], "end of the last group")
    header["VERDICT"] = (content["verdict"], "worst image: fresh, field, nearest, stale")
    header["CALAGE"] = (content["age_hours"], "[h] largest age of a calibration")
    header["QUALITY"] = (content["quality"], "clean or degraded")
    header["PBMODEL"] = content["primary_beam"][:60]
    header["NOISE"] = (content["noise_jy"], "[Jy/beam] where it is deepest")
    header["NGROUPS"] = (len(used), "images in this mosaic")
    for number, member in enumerate(used, 1):
        header[f"GROUP{number:03d}"] = (member.group, f"{member.sidecar['verdict']}, {member.sidecar['quality']}")
    for group in content["missing"]:
        header.add_history(f"missing: {group}")
    header.add_history("Sum of weight x image over sum of weight; weight = PB^2 / sigma^2; cubic splines")
    return header
