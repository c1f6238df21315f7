"""Validation against a known sky: what was put in is what is said to be wrong, and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from astropy.wcs import WCS
from scipy.ndimage import gaussian_filter

from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.telescope import beam, stations
from contimg.telescope.meridian import meridian_uvw
from contimg.validation import matching, page, references
from contimg.validation.artefacts import herringbone
from contimg.validation.gates import LIMITS, Check, Gate, GateLimits, Reason
from contimg.validation.overlap import Overlap
from contimg.validation.validation import Reference, SourceList, ValidationInput, validate

CENTRE = (np.radians(128.7), np.radians(54.57))
BEAM_RAD = np.radians(15 / 3600)
SIZE, PIXEL_DEG, NOISE = 900, 12 / 3600, 4e-4
WAVELENGTH_M = 0.2134
ON_THE_ARM = stations.EAST_WEST_ARM[0], stations.EAST_WEST_ARM[40]
"""Large pixels: 3 degrees in 900 of them; only the maps are that coarse."""


def wcs() -> WCS:
    made = WCS(naxis=2)
    made.wcs.ctype, made.wcs.crval = ["RA---SIN", "DEC--SIN"], np.degrees(CENTRE)
    made.wcs.crpix, made.wcs.cdelt = [SIZE / 2] * 2, [-PIXEL_DEG, PIXEL_DEG]
    return made


def sky(number: int = 150, seed: int = 1) -> SourceList:
    """Sources within 1.3 degrees, from 2 mJy to about 1 Jy."""
    rng = np.random.default_rng(seed)
    radius, angle = np.radians(1.3) * np.sqrt(rng.uniform(0, 1, number)), rng.uniform(0, 2 * np.pi, number)
    dec = CENTRE[1] + radius * np.cos(angle)
    ra = CENTRE[0] + radius * np.sin(angle) / np.cos(dec)
    flux = 2e-3 * rng.uniform(0.003, 1, number) ** -1.0
    return SourceList(ra, dec, flux, np.full(number, np.nan))


@cache
def noise() -> np.ndarray:
    made = gaussian_filter(np.random.default_rng(2).normal(size=(SIZE, SIZE)), 1.2)
    return made / made.std()


def significance() -> np.ndarray:
    return noise().copy()


def product(listed: SourceList, seed: int = 3, **change: object) -> ValidationInput:
    """A good image of a sky: fluxes and positions with the errors of its noise."""
    rng = np.random.default_rng(seed)
    snr = listed.flux_jy / NOISE
    shift = BEAM_RAD / snr / 2
    found = SourceList(
        listed.ra_rad + rng.normal(size=len(snr)) * shift / np.cos(listed.dec_rad),
        listed.dec_rad + rng.normal(size=len(snr)) * shift,
        listed.flux_jy + rng.normal(size=len(snr)) * NOISE,
        listed.spectral_index,
    )
    pixels = significance()
    x, y = wcs().wcs_world2pix(*np.degrees(listed.directions), 0)
    pixels[np.rint(y).astype(int), np.rint(x).astype(int)] += snr
    good = ValidationInput(found, snr, CENTRE, BEAM_RAD, pixels, np.full((SIZE, SIZE), NOISE), wcs(), 1.05)
    return replace(good, **change)


def failed(made: ValidationInput, reference: Reference) -> dict[Reason, Gate]:
    return {check.reason: check.gate for check in validate(made, reference).checks if check.gate is not Gate.PASS}


SKY = sky()
REFERENCE = Reference("truth", replace(SKY, spectral_index=np.full(len(SKY.flux_jy), -0.7)), 2e-3)


def scaled(factor: np.ndarray | float, made: ValidationInput) -> ValidationInput:
    return replace(made, sources=replace(made.sources, flux_jy=made.sources.flux_jy * factor))


def moved(east_rad: np.ndarray | float, north_rad: np.ndarray | float, made: ValidationInput) -> ValidationInput:
    ra, dec = made.sources.directions
    return replace(made, sources=replace(made.sources, ra_rad=ra + east_rad / np.cos(dec), dec_rad=dec + north_rad))


RANDOM = np.random.default_rng(7).normal(size=len(SKY.flux_jy))
EAST, NORTH = beam.offsets(*SKY.directions, *np.array(CENTRE))


def test_a_good_image_passes() -> None:
    made = validate(product(SKY), REFERENCE)
    assert failed(product(SKY), REFERENCE) == {}
    checks = {check.reason: check.value for check in made.checks}
    assert len(made.matches.ratio) > 40
    assert checks[Reason.FLUX_SCALE] == pytest.approx(0, abs=0.02)
    assert checks[Reason.COMPLETENESS] == 1
    assert checks[Reason.FALSE_DETECTION] == 0
    assert checks[Reason.NOISE_MAP] == pytest.approx(1, abs=0.05)


def stripes(first: int, second: int, amplitude: float) -> np.ndarray:
    """Fringe of a baseline that was not calibrated, over the whole image (in noises)."""
    uvw = meridian_uvw(stations.positions(), CENTRE[1])
    u, v, _ = (uvw[second] - uvw[first]) / WAVELENGTH_M
    pixel = np.radians(PIXEL_DEG) * (np.arange(SIZE) - SIZE / 2)
    return amplitude * np.cos(2 * np.pi * (u * pixel + v * pixel[:, np.newaxis]))


def with_stripes(made: ValidationInput, amplitude: float) -> ValidationInput:
    """Stripes that the noise map has measured, too."""
    pixels = made.significance + stripes(*ON_THE_ARM, amplitude)
    return replace(made, significance=pixels / np.hypot(1, amplitude / np.sqrt(2)))


def with_false_sources(made: ValidationInput, number: int) -> ValidationInput:
    """Sources of 15 σ at places where the sky has none, as sidelobes that were taken for sources."""
    false = sky(number, seed=9)
    false = replace(false, flux_jy=np.full(number, 15 * NOISE))
    every = SourceList(*(np.concatenate(pair) for pair in zip(*map(columns, (made.sources, false)), strict=True)))
    return replace(made, sources=every, snr=np.append(made.snr, np.full(number, 15.0)))


def columns(listed: SourceList) -> list[np.ndarray]:
    return list(vars(listed).values())


def with_halo(made: ValidationInput, height: float) -> ValidationInput:
    """A brightest source of 200 σ, in what is left of its own emission."""
    pixels = np.minimum(made.significance, 200.0)
    row, column = np.unravel_index(int(pixels.argmax()), pixels.shape)
    y, x = np.indices(pixels.shape)
    return replace(made, significance=pixels + height * (np.hypot(y - row, x - column) < 40))


def with_holes(made: ValidationInput, number: int, depth: float) -> ValidationInput:
    """Holes of one depth at places where the sky has no source."""
    pixels = made.significance.copy()
    x, y = wcs().wcs_world2pix(*np.degrees(sky(number, seed=11).directions), 0)
    pixels[np.rint(y).astype(int), np.rint(x).astype(int)] = -depth
    return replace(made, significance=pixels)


def of_index(listed: SourceList, index: float) -> SourceList:
    return replace(listed, spectral_index=np.full(len(listed.flux_jy), index))


@pytest.mark.parametrize(
    ("wrong", "reasons"),
    [
        (lambda made: scaled(0.7, made), {Reason.FLUX_SCALE: Gate.SOFT}),
        (lambda made: scaled(np.exp(0.35 * RANDOM), made), {Reason.FLUX_SCATTER: Gate.SOFT}),
        (lambda made: scaled(1 - 1.2e-3 / made.sources.flux_jy, made), {Reason.FLUX_TREND: Gate.SOFT}),
        (lambda made: replace(made, sources=of_index(made.sources, 0.3)), {Reason.SPECTRUM: Gate.SOFT}),
        (lambda made: moved(np.radians(3 / 3600), 0.0, made), {Reason.POSITION: Gate.SOFT}),
        (lambda made: with_false_sources(made, 40), {Reason.FALSE_DETECTION: Gate.SOFT}),
        (lambda made: replace(made, significance=made.significance * 1.6), {Reason.NOISE_MAP: Gate.SOFT}),
        (lambda made: with_holes(made, 50, 9.0), {Reason.NEGATIVE: Gate.SOFT}),
        (lambda made: with_holes(made, 50, 60.0), {Reason.NEGATIVE: Gate.SOFT}),
        (lambda made: with_halo(made, 5.0), {Reason.LOCAL_DYNAMIC_RANGE: Gate.SOFT}),
        (lambda made: with_stripes(made, 2.5), {Reason.HERRINGBONE: Gate.SOFT}),
        (lambda made: replace(made, noise_ratio=0.5), {Reason.NOISE_LOW: Gate.SOFT}),
        (lambda made: replace(made, noise_ratio=3.0), {Reason.NOISE_HIGH: Gate.SOFT}),
        (lambda made: scaled(np.exp(0.1 * np.degrees(EAST)), made), {Reason.POINTING: Gate.SOFT}),
        (lambda made: moved(0.3 * BEAM_RAD * np.degrees(EAST), 0.0, made), {Reason.POSITION_TREND: Gate.SOFT}),
    ],
)
def test_what_is_wrong_is_named_and_nothing_else(wrong, reasons) -> None:  # type: ignore[no-untyped-def]
    assert failed(wrong(product(SKY)), REFERENCE) == reasons


def lost(made: ValidationInput, kept: float) -> ValidationInput:
    """A product in which only a fraction of the sources was found."""
    which = np.random.default_rng(4).uniform(0, 1, len(made.snr)) < kept
    return replace(made, sources=made.sources.chosen(which), snr=made.snr[which])


def of_factors(made: ValidationInput, least: float) -> ValidationInput:
    """A mosaic of three images, of which one has another flux scale."""
    nothing = np.zeros(0)
    factors = {"one": (0.0, 0.01), "other": (float(np.log(least)), 0.01), "third": (0.01, 0.01)}
    return replace(made, overlap=Overlap(30, 60, 0.0, 0.01, factors, nothing, nothing, nothing))


BROKEN = {
    Reason.FLUX_SCALE: lambda made: scaled(0.3, made),
    Reason.FLUX_SCATTER: lambda made: scaled(np.exp(1.2 * RANDOM), made),
    Reason.FLUX_TREND: lambda made: scaled((made.sources.flux_jy / 0.02) ** 0.3, made),
    Reason.BEAM: lambda made: scaled(np.exp(-0.5 * np.degrees(np.hypot(EAST, NORTH))), made),
    Reason.POINTING: lambda made: scaled(np.exp(0.5 * np.degrees(EAST)), made),
    Reason.OVERLAP: lambda made: of_factors(made, 0.4),
    Reason.SPECTRUM: lambda made: replace(made, sources=of_index(made.sources, 2.5)),
    Reason.POSITION: lambda made: moved(0.6 * BEAM_RAD, 0.0, made),
    Reason.POSITION_TREND: lambda made: moved(0.9 * BEAM_RAD * np.degrees(NORTH), 0.0, made),
    Reason.COMPLETENESS: lambda made: lost(made, 0.25),
    Reason.FALSE_DETECTION: lambda made: with_false_sources(made, 200),
    Reason.NEGATIVE: lambda made: with_holes(made, 200, 9.0),
    Reason.NOISE_HIGH: lambda made: replace(made, noise_ratio=12.0),
    Reason.NOISE_LOW: lambda made: replace(made, noise_ratio=0.1),
    Reason.NOISE_MAP: lambda made: replace(made, significance=made.significance * 4.5),
    Reason.LOCAL_DYNAMIC_RANGE: lambda made: with_halo(made, 50.0),
    Reason.HERRINGBONE: lambda made: with_stripes(made, 12.0),
}


@pytest.mark.parametrize("reason", Reason)
def test_each_hard_limit_is_reached(reason: Reason) -> None:
    assert failed(BROKEN[reason](product(SKY)), REFERENCE)[reason] is Gate.HARD


def test_another_primary_beam_is_told() -> None:
    """A sky seen through a beam of 2.71 degrees, corrected for one of 3.2: the calibrator at 0.9 degrees is right."""
    radius = np.hypot(EAST, NORTH)
    seen, assumed = (beam.of(Beam(fwhm_deg=width)) for width in (2.71, 3.2))

    def ratio(angle: np.ndarray | float) -> np.ndarray:
        return seen.radial(angle, 1.4e9) / assumed.radial(angle, 1.4e9)

    made = scaled(ratio(radius) / ratio(np.radians(0.9)), product(SKY))
    assert failed(made, REFERENCE)[Reason.BEAM] is Gate.SOFT


def test_lost_and_false_sources_are_counted() -> None:
    made = product(SKY)
    kept = np.arange(len(SKY.flux_jy)) % 3 > 0
    fewer = replace(made, sources=made.sources.chosen(kept), snr=made.snr[kept])
    assert failed(fewer, REFERENCE) == {Reason.COMPLETENESS: Gate.SOFT}
    share = validate(fewer, REFERENCE).completeness
    assert share["detected"].sum() / share["listed"].sum() == pytest.approx(2 / 3, abs=0.12)
    less = Reference("truth", SKY.chosen(kept), 2e-3)
    assert failed(made, less) == {Reason.FALSE_DETECTION: Gate.SOFT}


def test_without_a_reference_the_image_speaks_for_itself() -> None:
    made = validate(product(SKY), None)
    assert made.gate is Gate.PASS
    assert made.reference == "none"
    assert herringbone(significance(), 3.0) == pytest.approx(1, abs=0.2)
    assert herringbone(significance() + stripes(*ON_THE_ARM, 1.5), 3.0) > 10


def test_too_few_sources_are_no_fault() -> None:
    few = SKY.chosen(np.arange(2))
    made = validate(product(few), Reference("truth", few, 2e-3))
    assert made.gate is Gate.PASS
    assert made.to_json()["checks"]["flux_scale"]["value"] is None
    assert validate(product(few), None).gate is Gate.PASS


def test_of_several_trends_the_one_that_fails_is_told_not_the_largest() -> None:
    """A strip, as a low mosaic: the trend to the north is the largest, as it is known worst."""
    chosen = Check.of_worst(Reason.POSITION_TREND, [(0.25, 0.03), (0.4, 0.24), (float("nan"), 0.0), (-0.03, 0.003)])
    assert (chosen.value, chosen.gate) == (0.25, Gate.SOFT)
    chosen = Check.of_worst(Reason.POSITION_TREND, [(0.05, 0.001), (0.8, 0.15), (0.3, 0.01)])
    assert (chosen.value, chosen.gate) == (0.8, Gate.HARD)
    chosen = Check.of_worst(Reason.POSITION_TREND, [(0.02, 0.01), (0.1, 0.09)])
    assert (chosen.value, chosen.gate) == (0.02, Gate.PASS)
    assert np.isnan(Check.of_worst(Reason.OVERLAP, []).value)


@pytest.mark.parametrize("seed", range(5))
def test_a_scale_error_along_a_strip_is_seen(seed: int) -> None:
    rng = np.random.default_rng(seed)
    number = 60
    dec = CENTRE[1] + np.radians(rng.uniform(-0.3, 0.3, number))
    ra = CENTRE[0] + np.radians(rng.uniform(-1.2, 1.2, number)) / np.cos(dec)
    strip = SourceList(ra, dec, rng.uniform(0.1, 1, number), np.full(number, np.nan))
    east, _ = beam.offsets(*strip.directions, *np.array(CENTRE))
    scattered = rng.normal(0, [[0.15], [0.3]], (2, number))
    wrong = moved(BEAM_RAD * (0.25 * np.degrees(east) + scattered[0]), BEAM_RAD * scattered[1], product(strip))
    assert failed(wrong, Reference("truth", strip, 2e-3)) == {Reason.POSITION_TREND: Gate.SOFT}


def test_limits_judge_both_sides() -> None:
    assert [GateLimits(1, 2).judge(v) for v in (0.5, 1.5, 3, np.nan)] == [Gate.PASS, Gate.SOFT, Gate.HARD, Gate.PASS]
    assert [GateLimits(2, 1, least=True).judge(v) for v in (3, 1.5, 0.5)] == [Gate.PASS, Gate.SOFT, Gate.HARD]
    assert set(LIMITS) == set(Reason)
    assert Check.of(Reason.BEAM, 0.1, 0.05).gate is Gate.PASS  # two standard deviations


def test_of_very_many_sources_the_brightest_are_compared_and_all_are_counted() -> None:
    many = sky(4000)
    made = validate(product(many), Reference("truth", many, 2e-3))
    assert len(made.matches.ratio) == 1000
    assert made.matches.flux_jy.min() > 12 * NOISE  # 10 would be compared, too
    checks = {check.reason: check.value for check in made.checks}
    assert checks[Reason.COMPLETENESS] == 1
    assert checks[Reason.NEGATIVE] == 0


def test_crowded_sources_are_not_matched() -> None:
    ra, dec = np.array([1.0, 1.0, 2.0]), np.array([0.5, 0.5 + BEAM_RAD, 0.5])
    assert matching.pairs((ra, dec), (ra, dec), BEAM_RAD).tolist() == [[2, 2]]


SIDECAR = {
    "quality": "degraded",
    "reasons": ["calibration is 7 h old"],
    "noise_jy": 5.6e-4,
    "thermal_noise_jy": 5.3e-4,
    "beam": {"major_arcsec": 41.0, "minor_arcsec": 37.0, "angle_deg": -12.0},
    "primary_beam": "airy 3.2 deg at 1400 MHz",
    "verdict": "nearest",
    "age_hours": 7.2,
}


def test_a_page_is_written(tmp_path: Path) -> None:
    made = product(SKY)
    validation = validate(made, REFERENCE)
    page.write(tmp_path / "v.html", "20260112T084512", validation, SIDECAR)
    text = (tmp_path / "v.html").read_text()
    assert '<h1>20260112T084512: <span class="pass">pass</span></h1>' in text
    unmeasured = {Reason.OVERLAP, Reason.SPECTRUM}
    assert all(f"<td>{reason}</td>" in text for reason in set(Reason) - unmeasured)
    assert "for want of a reference or of sources: overlap, spectrum." in text
    scale = next(check for check in validation.checks if check.reason is Reason.FLUX_SCALE)
    assert f"{scale.value:.4f} ± {scale.error:.4f}".replace("-", "−") in text
    assert "are not judged" not in text
    assert "The product is degraded: calibration is 7 h old." in text
    assert "noise 0.56 mJy/beam (thermal 0.53) · beam 41.0″ × 37.0″ at −12° · primary beam airy 3.2 deg" in text
    assert "calibration nearest, 7.2 h old" in text
    nothing = validate(product(SKY.chosen(np.arange(0))), None)
    mosaic = {**SIDECAR, "quality": "clean", "reasons": [], "depth_jy": 3.1e-4}
    del mosaic["thermal_noise_jy"]
    page.write(tmp_path / "none.html", "empty", nothing, mosaic)
    text = (tmp_path / "none.html").read_text()
    assert "The product is clean." in text
    assert "(from its weights 0.31)" in text
    assert "Without matches fluxes and positions are not judged." in text
    assert "<td>flux_scale</td>" not in text
    assert "<td>noise_high</td>" in text


def test_yesterdays_list_is_the_reference(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    group, yesterday, before, far = "20260112T084512", "20260111T084908", "20260112T084000", "20260112T060000"
    for name, flux in ((yesterday, 1.0), (before, 2.0), (far, 3.0)):
        path = root.image(name, references.SUFFIX)
        path.parent.mkdir(parents=True, exist_ok=True)
        listed = replace(SKY, flux_jy=SKY.flux_jy * flux)
        ones = np.ones(len(SKY.flux_jy))
        references.write(path, listed, errors_jy=ones, snr=ones, response=ones, frequency_hz=1.405e9, note=name)
    found = references.of_earlier(root, group, 54.57, 1.405e9)
    assert found is not None
    assert found.name == yesterday
    np.testing.assert_allclose(found.sources.flux_jy, SKY.flux_jy, rtol=1e-5)
    np.testing.assert_allclose(found.sources.ra_rad, SKY.ra_rad, atol=1e-8)
    assert references.of_earlier(root, group, 16.27, 1.405e9) is None
    root.image(yesterday, references.SUFFIX).write_text("damaged")
    found = references.of_earlier(root, group, 54.57, 1.405e9)
    assert found is not None
    assert found.name == before
    assert failed(product(SKY), found)[Reason.FLUX_SCALE] is not Gate.PASS
