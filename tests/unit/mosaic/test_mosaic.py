"""Known images in, the mosaic of them out: fluxes, positions, noise, names."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import source_lists
from astropy.io import fits
from astropy.wcs import WCS
from scipy.optimize import least_squares
from synthetic_images import Sky, centre, grid_sky, groups, write_image

from contimg.core.config import validated
from contimg.core.errors import ConfigError, NoUsableDataError, ToolFailedError
from contimg.core.files import read_json, write_json
from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.mosaic import reprojection
from contimg.mosaic.coadd import ImageInputs, MosaicSums, add, make_grid, read_input
from contimg.mosaic.mosaic import MosaicProducts, MosaicSettings, mosaic, mosaics
from contimg.mosaic.pointings import pointings
from contimg.telescope import beam
from contimg.validation.validation import SourceList

WINDOW = "20260112T080000"
FIRST = "20260112T080200"
DEC_DEG = 54.57
NO_SKY = Sky(np.array([]), np.array([]), np.array([]))


def made(root: Path, images: list[ImageInputs], **settings: object) -> tuple[dict, MosaicProducts]:
    outputs = MosaicProducts(*(root / name for name in ("m.fits", "w.fits", "c.fits", "m.png", "m.html")))
    return mosaic(images, outputs, configured(root, **settings), WINDOW, 2), outputs


def configured(root: Path, **settings: object) -> MosaicSettings:
    return validated({"data_root": str(root), **settings}).part(MosaicSettings)


def drift(root: Path, number: int, ra_deg: float, sky: Sky, dec_deg: float = DEC_DEG, **options) -> list[ImageInputs]:
    return [
        write_image(DataRoot(root), group, centre(FIRST, group, ra_deg), dec_deg, sky, seed=seed, **options)
        for seed, group in enumerate(groups(FIRST, number))
    ]


def fitted(path: Path, sky: Sky) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fitted peaks (Jy/beam), offsets from truth and widths (both in pixels) of the sources well inside."""
    values, wcs = fits.getdata(path), WCS(fits.getheader(path))
    found = []
    for x, y in zip(*wcs.wcs_world2pix(sky.ra_deg, sky.dec_deg, 0), strict=True):
        row, column = round(float(y)), round(float(x))
        if not (12 <= row < values.shape[0] - 12 and 12 <= column < values.shape[1] - 12):
            continue
        box = values[row - 4 : row + 5, column - 4 : column + 5].astype(float)
        if not np.isfinite(values[row - 12 : row + 13, column - 12 : column + 13]).all():
            continue
        up, across = np.mgrid[row - 4 : row + 5, column - 4 : column + 5]

        def residual(p: np.ndarray, box=box, up=up, across=across) -> np.ndarray:
            return (p[0] * np.exp(-((across - p[1]) ** 2 + (up - p[2]) ** 2) / 2 / p[3] ** 2) - box).ravel()

        peak, at_x, at_y, width = least_squares(residual, [box.max(), x, y, 1.7]).x
        found.append((peak, np.hypot(at_x - x, at_y - y), width))
    return tuple(np.array(found).T)


@pytest.mark.parametrize(("ra_deg", "dec_deg"), [(128.7, 54.57), (358.9, 16.27), (359.5, 65.7)])
def test_point_sources_keep_their_flux_and_place(tmp_path: Path, ra_deg: float, dec_deg: float) -> None:
    sky = grid_sky(ra_deg + 2, dec_deg, 6, 0.37, 1.0)
    content, outputs = made(tmp_path, drift(tmp_path, 4, ra_deg, sky, dec_deg, noise_jy=1e-5))
    peaks, offsets, _ = fitted(outputs.image, sky)
    assert peaks.size > 40
    assert peaks == pytest.approx(1.0, abs=0.01)
    assert np.median(peaks) == pytest.approx(1.0, abs=0.003)
    assert offsets.max() < 0.04  # a hundredth of the beam
    # Four images, 1.29°·cos(dec) apart, are not much wider than one, wherever right ascension 0 h is.
    width_deg = content["size"][0] * content["pixel_arcsec"] / 3600
    assert width_deg == pytest.approx(3.5 + 3 * 1.292 * np.cos(np.radians(dec_deg)), abs=0.35)
    assert abs((content["centre"]["ra_deg"] - ra_deg - 1.5 * 1.292 + 180) % 360 - 180) < 0.1


def test_it_is_as_deep_as_the_weights_say(tmp_path: Path) -> None:
    images = drift(tmp_path, 5, 128.7, NO_SKY, noise_jy=1e-3)
    content, outputs = made(tmp_path, images)
    values, weight = fits.getdata(outputs.image), fits.getdata(outputs.weight)
    wcs = WCS(fits.getheader(outputs.image))
    # What Σ PB²/σ² is at the centre of the third image, from the images' own beams.
    ra_deg = centre(FIRST, groups(FIRST, 5)[2], 128.7)
    expected = 0.0
    for inputs in images:
        x, y = WCS(fits.getheader(inputs.pb)).celestial.wcs_world2pix([[ra_deg, DEC_DEG]], 0)[0]
        if max(abs(x - 180), abs(y - 180)) < 180:
            expected += float(fits.getdata(inputs.pb)[0, 0, round(y), round(x)]) ** 2 / 1e-3**2
    x, y = np.round(wcs.wcs_world2pix([[ra_deg, DEC_DEG]], 0)[0]).astype(int)
    assert weight[y, x] == pytest.approx(expected, rel=0.02)
    # And the noise around it, over many beams, is what that weight says; so it is deeper than any image.
    around = values[y - 50 : y + 51, x - 50 : x + 51]
    assert np.std(around * np.sqrt(weight[y - 50 : y + 51, x - 50 : x + 51])) == pytest.approx(1, abs=0.1)
    assert np.std(around) < 0.75e-3
    assert content["noise_over_expected"] == pytest.approx(1, abs=0.1)
    assert content["depth_jy"] == pytest.approx(expected**-0.5, rel=0.1)
    assert content["quality"] == "clean"


def test_noise_above_the_weights_degrades_it(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY, noise_jy=1e-3)
    for inputs in images:  # the noise maps say half of what there is
        with fits.open(inputs.noise, mode="update") as file:
            file[0].data /= 2
    content, _ = made(tmp_path, images)
    assert content["noise_over_expected"] == pytest.approx(2, rel=0.1)
    assert content["quality"] == "degraded"
    assert "limit 1.5" in content["reasons"][0]


def test_images_of_different_primary_beams_degrade_it(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY)
    content, _ = made(tmp_path, images)
    assert content["primary_beam"] == "airy 3.2 deg at 1400 MHz"
    sidecar = read_json(images[0].sidecar)
    write_json(images[0].sidecar, sidecar | {"primary_beam": "gaussian 3 deg at 1400 MHz"})
    content, outputs = made(tmp_path, images)
    assert content["quality"] == "degraded"
    assert f"gaussian 3 deg at 1400 MHz: {sidecar['group']}" in content["reasons"][0]
    assert fits.getheader(outputs.image)["PBMODEL"] == "airy 3.2 deg at 1400 MHz, gaussian 3 deg at 1400 MHz"


def test_an_image_that_failed_its_validation_is_left_out(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY)
    checks = {"flux_scale": {"gate": "hard"}, "position": {"gate": "soft"}, "beam": {"gate": "pass"}}
    sidecar = read_json(images[0].sidecar)
    write_json(images[0].sidecar, sidecar | {"validation": {"gate": "hard", "checks": checks}})
    content, outputs = made(tmp_path, images)
    assert content["groups"] == [read_json(images[1].sidecar)["group"]]
    assert content["missing"] == [sidecar["group"]]
    assert content["quality"] == "degraded"
    assert content["reasons"] == [f"the image of {sidecar['group']} is left out: validation failed: flux_scale"]
    assert "NaN" not in outputs.validation.read_text()
    write_json(images[1].sidecar, read_json(images[1].sidecar) | {"validation": {"gate": "hard", "checks": checks}})
    with pytest.raises(NoUsableDataError, match="all of its 2 images failed validation"):
        made(tmp_path, images)


def test_images_that_disagree_where_they_overlap_degrade_it(tmp_path: Path) -> None:
    pointing = source_lists.Pointing(FIRST, 128.7, DEC_DEG, 4)
    listed, right = source_lists.sky(pointing, 500), beam.of(Beam())
    images = drift(tmp_path, 4, 128.7, NO_SKY)
    source_lists.write(DataRoot(tmp_path), pointing, listed, right, right)
    content, outputs = made(tmp_path, images)
    assert content["quality"] == "clean"
    assert content["overlap"]["sources"] > 30
    assert len(content["overlap"]["factors"]) == 4
    source_lists.write(DataRoot(tmp_path), pointing, listed, beam.of(Beam(fwhm_deg=2.72)), right)
    content, outputs = made(tmp_path, images)
    assert content["quality"] == "degraded"
    assert content["validation"]["checks"]["beam"]["gate"] == "soft"
    assert content["reasons"] == ["validation: beam"]
    assert "<td>overlap</td>" in outputs.validation.read_text()
    source_lists.write(DataRoot(tmp_path), pointing, listed, right, right, factors=[1, 0.7, 1, 1])
    assert made(tmp_path, images)[0]["reasons"] == ["validation: overlap"]


def test_without_a_catalogue_the_day_before_is_the_reference(tmp_path: Path) -> None:
    sky = grid_sky(128.7 + 1, DEC_DEG, 3, 0.37, 0.3)
    images = drift(tmp_path, 2, 128.7, sky)
    pointing = source_lists.Pointing("20260111T080556", 128.7, DEC_DEG, 2)
    right = beam.of(Beam())
    unknown = np.full(len(sky.flux_jy), np.nan)
    listed = SourceList(np.radians(sky.ra_deg), np.radians(sky.dec_deg), sky.flux_jy, unknown)
    source_lists.write(DataRoot(tmp_path), pointing, listed, right, right)
    content, _ = made(tmp_path, images)
    assert content["validation"]["reference"] == "2 images of 2026-01-11"
    assert content["validation"]["matches"] > 20
    assert content["validation"]["checks"]["flux_scale"]["value"] == pytest.approx(0, abs=0.03)
    twice = SourceList(listed.ra_rad, listed.dec_rad, 2 * listed.flux_jy, listed.spectral_index)
    source_lists.write(DataRoot(tmp_path), pointing, twice, right, right)
    content, _ = made(tmp_path, images)
    assert content["validation"]["checks"]["flux_scale"]["value"] == pytest.approx(-0.5, abs=0.03)
    assert content["quality"] == "degraded"


def test_one_image_makes_a_mosaic(tmp_path: Path) -> None:
    sky = grid_sky(128.7, DEC_DEG, 2.4, 0.5, 0.3)
    content, outputs = made(tmp_path, drift(tmp_path, 1, 128.7, sky, noise_jy=1e-5))
    assert content["coverage_max"] == 1
    assert content["groups"] == [FIRST]
    assert fitted(outputs.image, sky)[0] == pytest.approx(0.3, rel=0.01)
    assert content["peak_jy"] == pytest.approx(0.3, rel=0.02)
    values, weight, coverage = (fits.getdata(path) for path in (outputs.image, outputs.weight, outputs.coverage))
    assert np.array_equal(np.isfinite(values), coverage > 0)
    assert np.array_equal(weight > 0, coverage > 0)
    assert content["area_deg2"] == pytest.approx(3.5**2, rel=0.03)
    assert outputs.png.read_bytes().startswith(b"\x89PNG")


def test_the_beam_is_cut_at_the_least_response(tmp_path: Path) -> None:
    _, outputs = made(tmp_path, drift(tmp_path, 1, 128.7, NO_SKY), mosaic={"min_pb": 0.7})
    pb_edge = 1e-3 * np.sqrt(fits.getdata(outputs.weight))  # PB, as σ is 1 mJy
    assert np.min(pb_edge[pb_edge > 0]) == pytest.approx(0.7, abs=0.01)


def test_missing_groups_are_named_and_the_worst_verdict_stands(tmp_path: Path) -> None:
    names = groups(FIRST, 4)
    root = DataRoot(tmp_path)
    for group in [*names, "20260112T090530"]:
        write_json(root.manifest(group), {"group": group})
    images = drift(tmp_path, 3, 128.7, NO_SKY)
    write_image(
        root, names[1], centre(FIRST, names[1], 128.7), DEC_DEG, NO_SKY, verdict="nearest", quality="degraded"
    )
    content, outputs = made(tmp_path, images)
    assert content["missing"] == [names[3]]
    assert (content["verdict"], content["quality"], content["age_hours"]) == ("nearest", "degraded", 4.2)
    assert content["reasons"] == [f"{names[1]}: noise 2.4 times thermal"]
    header = fits.getheader(outputs.image)
    assert header["VERDICT"] == "nearest"
    assert f"missing: {names[3]}" in str(header["HISTORY"])


def test_each_pointing_has_a_mosaic_that_fits(tmp_path: Path) -> None:
    """The telescope moves inside the window: each grid is as large as its own images need it."""
    root, names = DataRoot(tmp_path), groups(FIRST, 4)
    declinations = (DEC_DEG, DEC_DEG, 16.27, 16.27)
    for group, dec_deg in zip([*names, "20260112T084500"], [*declinations, 16.27], strict=True):
        frame = {"start_jd": 2461052.8, "integrations": 24, "integration_s": 12.9, "declination_deg": dec_deg}
        write_json(root.manifest(group), {"group": group} | frame)
    skies = {dec: grid_sky(129.5, dec, 2.4, 0.5, 0.3) for dec in set(declinations)}
    images = [
        write_image(root, group, centre(FIRST, group, 128.7), dec, skies[dec], noise_jy=1e-5)
        for group, dec in zip(names, declinations, strict=True)
    ]
    named = pointings(WINDOW, [inputs.sidecar for inputs in images])
    other = f"{WINDOW}-dec+16.3"
    keys = ("image", "weight", "coverage", "png", "validation")
    output = {f"{name}{key}": tmp_path / f"{name[:-1]}{key}" for name in ("", f"{other}/") for key in keys}
    settings = configured(tmp_path, limits={"mem_mb": 1100})
    first, second = mosaics(images, named, SimpleNamespace(**output), settings, 2)
    assert (first["window"], first["groups"], first["other_pointings"]) == (WINDOW, names[:2], [other])
    assert (second["window"], second["groups"], second["other_pointings"]) == (other, names[2:], [WINDOW])
    assert (first["missing"], second["missing"]) == ([], ["20260112T084500"])
    assert first["centre"]["dec_deg"] == pytest.approx(DEC_DEG, abs=0.1)
    assert second["centre"]["dec_deg"] == pytest.approx(16.27, abs=0.1)
    for name, content, dec in (("", first, DEC_DEG), (f"{other}/", second, 16.27)):
        assert content["size"][1] * content["pixel_arcsec"] / 3600 < 3.7
        assert fitted(output[f"{name}image"], skies[dec])[0] == pytest.approx(0.3, rel=0.01)


def test_the_header_is_complete(tmp_path: Path) -> None:
    _, outputs = made(tmp_path, drift(tmp_path, 2, 359.9, NO_SKY))
    header = fits.getheader(outputs.image)
    assert header["BUNIT"] == "Jy/beam"
    assert header["BMAJ"] == pytest.approx(140 / 3600)
    assert header["TELESCOP"] == "OVRO_MMA"
    assert header["RESTFRQ"] == 1.405e9
    assert (header["DATE-OBS"], header["DATE-END"]) == ("2026-01-12T08:02:00", "2026-01-12T08:12:18")
    assert [header["GROUP001"], header["GROUP002"]] == groups(FIRST, 2)
    assert header["RADESYS"] == "ICRS"
    assert fits.getheader(outputs.weight)["BUNIT"] == "beam2/Jy2"


def test_unequal_beams_keep_peaks(tmp_path: Path) -> None:
    # A quarter of the band missing makes a beam at most 4 % wider.
    sky = grid_sky(129.3, DEC_DEG, 2.6, 0.45, 1.0)
    names = groups(FIRST, 2)
    images = [
        write_image(
            DataRoot(tmp_path), group, centre(FIRST, group, 128.7), DEC_DEG, sky, beam_arcsec=width, noise_jy=1e-5
        )
        for group, width in zip(names, (140.0, 145.6), strict=True)
    ]
    content, outputs = made(tmp_path, images)
    assert fitted(outputs.image, sky)[0] == pytest.approx(1.0, abs=0.01)
    assert content["beam"]["major_arcsec"] == pytest.approx(142.8, abs=0.3)
    assert content["beam_spread"] == pytest.approx(2 * 0.04, abs=0.005)


def test_the_mean_of_beams_keeps_their_angle(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY)
    for number, inputs in enumerate(images):
        _change(inputs, {"beam": {"major_arcsec": 150.0, "minor_arcsec": 120.0, "angle_deg": (-88.0, 88.0)[number]}})
    mean = made(tmp_path, images)[0]["beam"]
    assert mean["major_arcsec"] == pytest.approx(150, abs=0.2)
    assert mean["minor_arcsec"] == pytest.approx(120, abs=0.2)
    assert abs(mean["angle_deg"]) == pytest.approx(90, abs=0.5)


def test_a_blank_part_does_not_spread(tmp_path: Path) -> None:
    sky = grid_sky(128.7, DEC_DEG, 2.4, 0.5, 1.0)
    images = drift(tmp_path, 1, 128.7, sky, noise_jy=1e-5)
    with fits.open(images[0].image, mode="update") as file:
        file[0].data[..., 150:170, 150:170] = np.nan
    _, outputs = made(tmp_path, images)
    blank = np.count_nonzero(np.isnan(fits.getdata(outputs.image)[60:-60, 60:-60]))
    assert blank == pytest.approx((20 + 2 * 12) ** 2, rel=0.05)
    assert fitted(outputs.image, sky)[0] == pytest.approx(1.0, abs=0.01)


def test_an_empty_image_is_missing_and_only_empty_ones_make_none(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY)
    with fits.open(images[1].image, mode="update") as file:
        file[0].data[:] = np.nan
    content, _ = made(tmp_path, images)
    assert content["missing"] == [groups(FIRST, 2)[1]]
    assert "no usable pixel" in content["reasons"][0]
    with pytest.raises(NoUsableDataError, match=WINDOW):
        made(tmp_path, images[1:])
    with pytest.raises(NoUsableDataError, match="has no images"):
        made(tmp_path, [])


@pytest.mark.parametrize("threads", [1, 2])
def test_it_keeps_to_the_jobs_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    (image,) = drift(tmp_path, 1, 113.5, NO_SKY, size=40)
    member = read_input(image)
    grid = make_grid([member])
    sums = MosaicSums(*(np.zeros(grid.shape, kind) for kind in (np.float32, np.float32, np.int16)))
    at_work: list[int] = []
    monkeypatch.setattr(reprojection, "spline_coefficients", lambda _: at_work.append(numba.get_num_threads()))
    monkeypatch.setattr(reprojection, "add", lambda *_: at_work.append(numba.get_num_threads()))
    numba.set_num_threads(numba.config.NUMBA_NUM_THREADS)
    add(member, grid, sums, 0.2, threads)
    assert at_work == [min(threads, numba.config.NUMBA_NUM_THREADS)] * 2


def test_a_grid_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    images = drift(tmp_path, 2, 128.7, NO_SKY)
    with pytest.raises(ConfigError, match=r"mosaic\.window_minutes.*limits\.mem_mb is 500"):
        made(tmp_path, images, limits={"mem_mb": 500})


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_a_broken_image_is_named(tmp_path: Path) -> None:
    images = drift(tmp_path, 1, 128.7, NO_SKY)
    images[0].noise.write_bytes(images[0].noise.read_bytes()[:100_000])
    with pytest.raises(ToolFailedError, match=r"noise\.fits: not a whole FITS image"):
        made(tmp_path, images)


def _change(inputs: ImageInputs, content: dict) -> None:
    from contimg.core.files import read_json

    write_json(inputs.sidecar, {**read_json(inputs.sidecar), **content})
