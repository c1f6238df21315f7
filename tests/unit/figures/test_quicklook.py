"""Pictures: sources stay visible, coordinates stay right, what must be said is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from PIL import Image
from synthetic_images import Sky, grid_sky, write_image

from contimg.core.errors import UnusableSetError
from contimg.core.files import read_json
from contimg.core.paths import DataRoot
from contimg.figures import drawing, quicklook
from contimg.fits import plane
from contimg.mosaic.coadd import ImageInputs
from contimg.sets.gains import Gains

GROUP = "20260112T080200"
PNG = b"\x89PNG\r\n\x1a\n"


def colour(name: str) -> np.ndarray:
    return np.array([int(name[at : at + 2], 16) for at in (1, 3, 5)])


def pixels_near(png: Path, name: str, within: int = 12) -> np.ndarray:
    """Where the picture has this colour."""
    drawn = np.asarray(Image.open(png).convert("RGB")).astype(int)
    return np.abs(drawn - colour(name)).max(axis=2) <= within


def imaged(root: Path, sky: Sky, **options) -> ImageInputs:
    return write_image(DataRoot(root), GROUP, 128.7, 54.57, sky, **options)


@pytest.fixture
def png(tmp_path: Path) -> Path:
    return tmp_path / ".picture.png.part-1"


def test_an_image_with_its_half_power_contour(tmp_path: Path, png: Path) -> None:
    inputs = imaged(tmp_path, grid_sky(128.7, 54.57, 3, 0.5, 0.1))
    quicklook.image_png(plane.read(inputs.image), plane.read(inputs.pb).values, png, read_json(inputs.sidecar))
    assert png.read_bytes().startswith(PNG)
    marks = np.argwhere(pixels_near(png, drawing.MARK)[:-150])  # without the note below
    # The dashed circle is 3.2° wide in an image of 3.5°.
    across = np.ptp(marks[:, 1]) / (drawing.DPI * drawing._LEAST_INCHES) * 3.5
    assert across == pytest.approx(3.19, abs=0.06)


@pytest.mark.parametrize(("verdict", "quality", "warns"), [("fresh", "clean", 0), ("nearest", "clean", 1)])
def test_a_lesser_verdict_is_in_the_colour_of_alarm(tmp_path, png: Path, verdict: str, quality: str, warns) -> None:
    inputs = imaged(tmp_path, grid_sky(128.7, 54.57, 3, 0.5, 0.0), verdict=verdict, quality=quality)
    quicklook.image_png(plane.read(inputs.image), plane.read(inputs.pb).values, png, read_json(inputs.sidecar))
    assert bool(pixels_near(png, drawing.ALARM)[:80].any()) == bool(warns)


def test_a_mosaic_with_and_without_overlap(tmp_path: Path, png: Path) -> None:
    inputs = imaged(tmp_path, grid_sky(128.7, 54.57, 3, 0.5, 0.1))
    content = {**read_json(inputs.sidecar), "window": GROUP, "groups": [GROUP], "missing": ["20260112T080700"]}
    covered = np.ones((360, 360), np.int16)
    for overlap in (1, 3):
        covered[:, 100:] = overlap
        quicklook.mosaic_png(plane.read(inputs.image), covered, png, content)
        lines = pixels_near(png, drawing.MARK, 60)[100:-200]
        assert bool(lines.all(axis=0).any() or lines.mean(axis=0).max() > 0.5) == (overlap == 3)


def test_a_blank_image_is_drawn_too(tmp_path: Path, png: Path) -> None:
    inputs = imaged(tmp_path, grid_sky(128.7, 54.57, 3, 0.5, 0.1))
    with fits.open(inputs.image, mode="update") as file:
        file[0].data[:] = np.nan
    quicklook.image_png(plane.read(inputs.image), plane.read(inputs.pb).values, png, read_json(inputs.sidecar))
    assert png.read_bytes().startswith(PNG)


@pytest.mark.parametrize("factor", [1, 3, 4, 7])
def test_reduced_for_display_sources_stay_and_noise_does_not_grow(factor: int) -> None:
    values = np.random.default_rng(1).normal(size=(700, 900)).astype(np.float32)
    values[:, 800:] *= 3  # noise is not the same everywhere
    values[351, 402] = 40
    values[600:, :20] = np.nan
    reduced = drawing._reduced(values, factor)
    assert reduced.shape == (700 // factor, 900 // factor)
    assert reduced[351 // factor, 402 // factor] == 40
    assert np.isnan(reduced[-1, 0])
    bright = np.count_nonzero(reduced > 15)
    assert bright == (1 if factor == 1 else 5)  # and no source where there is none
    quiet = reduced[: 300 // factor, : 700 // factor]
    assert np.std(quiet) == pytest.approx(1 / factor, rel=0.15)


def test_blocks_keep_their_coordinates() -> None:
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---SIN", "DEC--SIN"], [359.9, 54.57]
    wcs.wcs.crpix, wcs.wcs.cdelt = [181, 181], [-0.01, 0.01]
    reduced = drawing._reduced_wcs(wcs, 4)
    # Block (10, 20) has the pixels 40-43 and 80-83: its centre is at 41.5 and 81.5.
    assert reduced.wcs_pix2world([[10, 20]], 0) == pytest.approx(wcs.wcs_pix2world([[41.5, 81.5]], 0), abs=1e-9)


@pytest.mark.parametrize("noise", [0.013, 0.2, 0.25, 0.36, 1.0, 7.7, 99.0])
@pytest.mark.parametrize("ceiling", [10, 150])
def test_ticks_are_round_and_few(noise: float, ceiling: float) -> None:
    ticks = drawing._ticks(-3 * noise, ceiling * noise)
    assert ticks == sorted(ticks)
    assert 0 in ticks
    assert 3 <= len(ticks) <= 9
    assert -3 * noise <= ticks[0]
    assert ticks[-1] <= ceiling * noise
    assert all(len(f"{abs(tick):.6e}".split("e")[0].rstrip("0")) == 2 for tick in ticks if tick)


def test_a_picture_is_small_and_its_white_is_white(tmp_path: Path, png: Path) -> None:
    inputs = imaged(tmp_path, grid_sky(128.7, 54.57, 3, 0.5, 0.1), size=1400, beam_arcsec=36.0)
    quicklook.image_png(plane.read(inputs.image), plane.read(inputs.pb).values, png, read_json(inputs.sidecar))
    drawn = Image.open(png)
    assert max(drawn.size) < 1400
    assert png.stat().st_size < 1_000_000
    assert drawn.convert("RGB").getpixel((2, 2)) == (255, 255, 255)


def made_gains(antennas: int, steps: int) -> Gains:
    random = np.random.default_rng(4)
    shape = (antennas, 2)
    good = np.ones(shape, bool)
    good[3] = False
    phase = random.uniform(-3, 3, (steps, *shape))
    return Gains(
        reference_hz=1.405e9,
        delay_s=random.normal(size=shape) * 1e-8,
        delay_good=good,
        bandpass_hz=np.linspace(1.311e9, 1.499e9, 64),
        bandpass=np.ones((antennas, 64, 2), np.complex64),
        bandpass_good=np.repeat(good[:, None], 64, axis=1),
        times_mjd_s=5.2e9 + 60.0 * np.arange(steps),
        gain=np.exp(1j * phase).astype(np.complex64),
        gain_good=np.repeat(good[None], steps, axis=0),
    )


@pytest.mark.parametrize(("antennas", "steps"), [(97, 5), (6, 1)])
def test_a_set_has_a_row_for_each_solved_antenna(png: Path, antennas: int, steps: int) -> None:
    content = {
        "group": GROUP,
        "calibrator": "J0834+5534",
        "observed_utc": "2026-01-12T08:04:34",
        "reference_antenna": "24",
        "quality": {"passed": False, "reasons": ["phase_scatter_deg 33 is over 20"], "dead_antennas": ["4"]},
    }
    quicklook.draw_gains(made_gains(antennas, steps), png, content)
    height = Image.open(png).height / drawing.DPI - 2 * quicklook._MARGIN_INCHES
    assert height == pytest.approx(max(3.0, (antennas - 1) * quicklook._ROW_INCHES), abs=0.02)
    assert pixels_near(png, drawing.ALARM).any()


def test_a_set_without_solutions_is_a_title(png: Path) -> None:
    solved = made_gains(6, 1)
    solved.delay_good[:] = False
    quicklook.draw_gains(solved, png, {})
    assert png.read_bytes().startswith(PNG)


def test_a_set_that_is_not_there_is_named(in_process, tmp_path: Path, png: Path) -> None:
    with pytest.raises(UnusableSetError, match=r"delay\.cal: cannot be read"):
        in_process(quicklook.calibration_png, tmp_path, png)
