"""Image of a group: Measurement Set and calibration sets → image, noise, primary beam, picture, quality."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

import contimg
from contimg.antennas import statistics
from contimg.core import files, trace
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_start
from contimg.fits.plane import Plane
from contimg.image import flux_scale, image_validation, qa, self_calibration
from contimg.image.field_image import FieldCalibrationSettings, FieldImage
from contimg.sets import coverage, interpolate
from contimg.sets.policy import Verdict
from contimg.sets.registry import Registry
from contimg.telescope import dsa110
from contimg.validation import page, references
from contimg.validation.validation import SourceList, matches, validate

_LOG = logging.getLogger(__name__)

_MIN_SNR = 7.0
"""Signal-to-noise ratio above which sources are counted."""
_MJD_EPOCH = datetime(1858, 11, 17, tzinfo=UTC)
_CALIBRATION = (
    *("verdict", "interpolated", "age_hours", "set_age_hours", "expected_error"),
    *("set", "sets", "calibrator", "warning", "note"),
)
"""Keys of the selection that the image's sidecar repeats."""


@dataclass(frozen=True)
class ImageProducts:
    """Paths of the image, noise (Jy/beam, flux-corrected), primary beam, picture, page, sources, antennas."""

    image: Path
    noise: Path
    pb: Path
    png: Path
    validation: Path
    sources: Path
    antennas: Path


def image(  # noqa: PLR0917 — the rule's inputs and outputs
    ms: Path, selection: Path, products: ImageProducts, directory: Path, settings: Settings, threads: int
) -> dict[str, Any]:
    """Make a group's image.

    Parameters
    ----------
    ms
        The group's Measurement Set; its sidecar stands beside it.
    selection
        `<group>.selection.json`; the sets' paths in it are relative to `settings.data_root`.
    products
        Paths to write.
    directory
        Folder for working files; the caller removes it.
    settings
        All settings.
    threads
        Threads of the job.

    Returns
    -------
    dict
        Content of the image's sidecar.

    Raises
    ------
    ContimgError
        From averaging, the imager, the calibration tables or the catalogue.
    """
    chosen = files.read_json(selection)
    conversion = files.read_json(ms.with_suffix(".json"))
    calibration_beams = _calibration_beams(chosen["sets"], settings.data_root)  # of the solutions that are loaded
    solved = interpolate.load(chosen, settings.data_root)
    set_error = chosen["without_field"]["expected_error"] if chosen["verdict"] == Verdict.FIELD else None
    field = settings.part(FieldCalibrationSettings)
    calibrated = self_calibration.make(ms, solved, directory, field, threads, set_error=set_error)
    if set_error is not None and not calibrated.used:
        chosen |= chosen["without_field"]
    made = calibrated.image
    with trace.step("QA"):
        found = made.find_sources(_MIN_SNR, 0.5)
    scale = None
    with trace.step("validate"):
        product = image_validation.product(made, found)
        catalogue = image_validation.catalogued(made, settings.sky_catalogue)
        if chosen["verdict"] == Verdict.FIELD:
            ratios = matches(product, catalogue.sources).ratio if catalogue else np.zeros(0)
            scale = flux_scale.tie(ratios, chosen["set"], settings.data_root)
            chosen["warning"] = "; ".join(filter(None, (chosen["warning"], scale["note"]))) or None
            made, found = flux_scale.scaled(made, found, scale["factor"])
            product = image_validation.product(made, found)
        reference = catalogue or image_validation.earlier(made, chosen["group"], DataRoot(settings.data_root))
        validation = validate(product, reference)
        comparison = qa.compare(validation.matches, product.beam_rad) if catalogue else None
    usable = made.primary_beam >= settings.imaging.pb_cutoff
    peak_jy = float(made.apparent[usable].max())
    primary_beam = made.averaged.primary_beam.name
    quality, reasons = qa.verdict(
        noise_jy=made.noise_jy,
        thermal_noise_jy=made.averaged.thermal_noise_jy,
        dynamic_range=peak_jy / made.noise_jy,
        comparison=comparison,
        conversion=conversion,
        other_beams=sorted({*calibration_beams} - {primary_beam}),
        selection=chosen,
        gates=settings.quality,
    )
    if told := qa.validation_reasons(validation, comparison):
        quality, reasons = "degraded", [*reasons, *told]
    content = {
        "group": chosen["group"],
        **{key: chosen.get(key) for key in _CALIBRATION},
        "calibration_beams": calibration_beams,
        "coverage": coverage.coverage(
            Registry(DataRoot(settings.data_root), settings.calibration), group_start(chosen["group"])
        ),
        "interpolation": interpolate.report(solved, made.averaged.times_mjd_s),
        "refinement": calibrated.report,
        "flux_scale": scale,
        "quality": quality,
        "reasons": reasons,
        **_described(made),
        "peak_jy": peak_jy,
        "dynamic_range": peak_jy / made.noise_jy,
        "sources": len(found),
        "catalogue": qa.as_content(comparison),
        "validation": validation.to_json(),
        "missing_subbands": sorted({*conversion["missing_subbands"], *conversion["zeroed_subbands"]}),
        "partial_subbands": conversion.get("partial_subbands", {}),  # earlier versions left them out
    }
    for reason in reasons:
        _LOG.warning("%s: degraded: %s", content["group"], reason)
    with trace.step("write"):
        _write(made, usable, products, content, threads)
    page.write(products.validation, content["group"], validation, content)
    errors, snr = (np.array([getattr(source, name) for source in found]) for name in ("error_jy", "snr"))
    note = f"{content['group']}, {made.frequency_hz / 1e6:.1f} MHz, primary beam {primary_beam}"
    with trace.step("antennas"):
        files.write_json(
            products.antennas,
            statistics.describe(
                chosen, conversion, solved, calibrated.gains, made.averaged, field_passed=calibrated.passed
            ),
        )
    references.write(
        products.sources,
        product.sources,
        errors_jy=errors,
        snr=snr,
        response=_response(made, product.sources),
        frequency_hz=made.frequency_hz,
        note=note,
    )
    return content


def _calibration_beams(sets: Sequence[str], data_root: Path) -> list[str]:
    """Primary beams that the sets were solved with; none of sets that are older than the setting."""
    names = (files.read_json(data_root / path).get("primary_beam") for path in sets)
    return sorted({name for name in names if name})


def _described(made: FieldImage) -> dict[str, Any]:
    """Description of the image for the sidecar."""
    averaged = made.averaged
    ra, dec = averaged.phase_centre_rad
    return {
        "beam": {
            "major_arcsec": float(np.degrees(made.beam.major_rad) * 3600),
            "minor_arcsec": float(np.degrees(made.beam.minor_rad) * 3600),
            "angle_deg": float(np.degrees(made.beam.angle_rad)),
        },
        "noise_jy": made.noise_jy,
        "thermal_noise_jy": averaged.thermal_noise_jy,
        "flagged_fraction": averaged.flagged_fraction,
        "antennas": len(averaged.antennas),
        "visibilities": averaged.visibilities,
        "smearing": averaged.loss,
        "frequency_hz": made.frequency_hz,
        "pixel_arcsec": float(np.degrees(made.pixel_rad) * 3600),
        "size": made.apparent.shape[0],
        "imager": made.imager,
        "primary_beam": made.averaged.primary_beam.name,
        "centre": {"ra_deg": float(np.degrees(ra) % 360), "dec_deg": float(np.degrees(dec))},
    }


def _response(made: FieldImage, sources: SourceList) -> np.ndarray:
    """Primary beam at sources, shape (S,)."""
    column, row = made.wcs.wcs_world2pix(*np.degrees(sources.directions), 0) if len(sources.ra_rad) else ([], [])
    return made.primary_beam[np.rint(row).astype(int), np.rint(column).astype(int)]


def _write(
    made: FieldImage, usable: np.ndarray, products: ImageProducts, content: Mapping[str, Any], threads: int
) -> None:
    """Write the three FITS files, and draw the picture meanwhile; unusable pixels are NaN, except in the beam."""
    response = np.where(usable, made.primary_beam, np.float32(np.nan))
    image = made.apparent / response
    with ThreadPoolExecutor(threads) as pool:
        written = [
            pool.submit(_write_plane, path, values, _header(made, content, unit, kind))
            for path, values, unit, kind in (
                (products.image, image, "Jy/beam", "Intensity"),
                (products.noise, made.noise / response, "Jy/beam", "Noise"),
                (products.pb, made.primary_beam, "", "Primary beam"),
            )
        ]
        # Axes with sky coordinates take a fourth of the job's imports: the files are written meanwhile.
        from contimg.figures import quicklook  # noqa: PLC0415

        shown = Plane(image, made.wcs, _header(made, content, "Jy/beam", "Intensity"))
        quicklook.image_png(shown, made.primary_beam, products.png, content)
        for pending in written:
            pending.result()


def _write_plane(path: Path, values: np.ndarray, header: fits.Header) -> None:
    """Write an image with the four axes of radio images."""
    values = values[np.newaxis, np.newaxis].astype(">f4")
    fits.PrimaryHDU(values, header).writeto(path, overwrite=True, checksum=True)


def _header(made: FieldImage, content: Mapping[str, Any], unit: str, kind: str) -> fits.Header:
    """FITS header of a product: the four axes of radio images, ICRS, UTC."""
    averaged, wcs, beam = made.averaged, made.wcs.wcs, content["beam"]
    half = averaged.integration_s / 2
    begin, end = (_utc(seconds) for seconds in (averaged.times_mjd_s[0] - half, averaged.times_mjd_s[-1] + half))
    bandwidth = averaged.channel_hz * len(averaged.frequencies_hz)
    header = fits.Header()
    header["BUNIT"] = unit
    header["BTYPE"] = kind
    axes = (
        (wcs.ctype[0], wcs.crval[0], wcs.cdelt[0], wcs.crpix[0], "deg"),
        (wcs.ctype[1], wcs.crval[1], wcs.cdelt[1], wcs.crpix[1], "deg"),
        ("FREQ", made.frequency_hz, bandwidth, 1.0, "Hz"),
        ("STOKES", 1.0, 1.0, 1.0, ""),
    )
    for number, (ctype, value, step, pixel, axis_unit) in enumerate(axes, 1):
        header[f"CTYPE{number}"] = ctype
        header[f"CRVAL{number}"] = float(value)
        header[f"CDELT{number}"] = float(step)
        header[f"CRPIX{number}"] = float(pixel)
        header[f"CUNIT{number}"] = axis_unit
    header["RADESYS"] = "ICRS"
    header["LONPOLE"] = 180.0
    header["LATPOLE"] = float(wcs.crval[1])
    header["SPECSYS"] = "TOPOCENT"
    header["RESTFRQ"] = (made.frequency_hz, "[Hz] mean, weighted as the data")
    header["BMAJ"] = (beam["major_arcsec"] / 3600, "[deg] synthesized beam, FWHM")
    header["BMIN"] = (beam["minor_arcsec"] / 3600, "[deg]")
    header["BPA"] = (beam["angle_deg"], "[deg] east of north")
    header["OBJECT"] = (content["group"], "group: UTC start of its data")
    header["TELESCOP"] = dsa110.NAME
    header["INSTRUME"] = dsa110.INSTRUMENT
    header["TIMESYS"] = "UTC"
    moments = {"OBS": begin, "BEG": begin, "AVG": begin + (end - begin) / 2, "END": end}
    for name, moment in moments.items():
        header[f"DATE-{name}"] = _iso(moment)
        header[f"MJD-{name}"] = (moment - _MJD_EPOCH) / timedelta(days=1)
    header["EXPTIME"] = ((end - begin).total_seconds(), "[s]")
    header["VERDICT"] = (content["verdict"], "calibration: fresh, field, nearest, stale")
    header["CALAGE"] = (content["age_hours"], "[h] age of the calibration")
    header["CALSET"] = (",".join(Path(path).parent.name for path in content["sets"]), "calibration set, or two")
    header["QUALITY"] = (content["quality"], "clean or degraded")
    header["NOISE"] = (content["noise_jy"], "[Jy/beam] before beam correction")
    header["THERMAL"] = (content["thermal_noise_jy"], "[Jy/beam] that the SEFD predicts")
    header["PBMODEL"] = (content["primary_beam"], "primary beam of the flux correction")
    header["IMAGER"] = content["imager"]
    header["ORIGIN"] = f"contimg {contimg.__version__}"
    for reason in content["reasons"]:
        plain = reason.replace("×", "x").encode("ascii", "replace").decode()  # FITS headers are ASCII
        header.add_history(f"degraded: {plain}")
    return header


def _utc(mjd_s: float) -> datetime:
    return _MJD_EPOCH + timedelta(seconds=float(mjd_s))


def _iso(time: datetime) -> str:
    """Time in the format of FITS: UTC, to a millisecond."""
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds")
