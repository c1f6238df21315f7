"""A group's image: what went in must come out."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imaging_group
import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from conftest import call_in_process
from truth import Sky, peaks, plane

from contimg.core import config, files
from contimg.core.errors import UnusableSetError
from contimg.image import field_image, self_calibration
from contimg.image import image as image_module
from contimg.image.field_image import FieldCalibrationSettings, FieldImageSettings
from contimg.image.image import ImageProducts, image
from contimg.simulator import simulator
from contimg.simulator.simulator import Fault, FaultKind
from contimg.visibilities.baseline_averaging import average

SEED = 7
FLAGGED_ANTENNAS = (simulator.SMALL.antennas[5], simulator.SMALL.antennas[30])


@dataclass(frozen=True)
class Made:
    """A group, its products and what the rule would write beside them."""

    directory: Path
    ms: Path
    selection: Path
    products: ImageProducts
    sidecar: dict[str, Any]
    sky: Sky


def settings(directory: Path, **sections: Any) -> config.Settings:
    return config.validated({"data_root": str(directory), **sections}, {})


def simulate(directory: Path, **options: Any) -> tuple[Path, Path]:
    """A random field seen through gains; its Measurement Set and selection."""
    sources = imaging_group.spaced_sky(imaging_group.centre_deg(simulator.SMALL), 0.08, SEED)
    ms = call_in_process(imaging_group.make, directory, simulator.SMALL, sources, seed=SEED, **options)
    selection = directory / "selection.json"
    chosen = {
        "group": ms.stem,
        "verdict": "nearest",
        "age_hours": 4.5,
        "set": "calibration/2026-01-13/20260113T093000/set.json",
        "sets": ["calibration/2026-01-13/20260113T093000/set.json"],
        "interpolated": False,
        "calibrator": "J0834+5534",
        "considered": [],
        "warning": "no active set",
        "note": None,
    }
    files.write_json(selection, chosen)
    (directory / chosen["set"]).parent.mkdir(parents=True)
    return ms, selection


def run(directory: Path, ms: Path, selection: Path, **sections: Any) -> tuple[ImageProducts, dict[str, Any]]:
    """What the rule does, with the true gains for a set."""
    out = directory / "out"
    out.mkdir()
    names = ("image.fits", "noise.fits", "pb.fits", "png", "validation.html", "sources.csv", "antennas.json")
    products = ImageProducts(*(out / f"{ms.stem}.{name}" for name in names))
    truth = imaging_group.true_gains(ms.parents[2])
    solved = ms.parents[2] / files.read_json(selection)["set"]
    files.write_json(solved, {"primary_beam": "airy 3.2 deg at 1400 MHz"})

    def load(chosen: dict[str, Any], root: Path) -> Any:
        """True gains; as soon as they are loaded, the set is solved again with another beam."""
        files.write_json(solved, {"primary_beam": "gaussian 3 deg at 1400 MHz"})
        return truth

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module.interpolate, "load", load)
        options = settings(ms.parents[2], **sections)
        sidecar = image(ms, selection, products, directory / "work", options, 2)
    return products, json.loads(json.dumps(sidecar))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Made:
    """Two antennas are dead, a subband is missing, two began late and one was closed early."""
    directory = tmp_path_factory.mktemp("image")
    ms, selection = simulate(
        directory,
        dead=simulator.DeadAntennas(FLAGGED_ANTENNAS),
        fault_list=[Fault(FaultKind.MISSING, 0, (7,))],
        held={2: (1, 24), 5: (9, 24), 11: (0, 23)},
    )
    products, sidecar = run(directory, ms, selection)
    return Made(directory, ms, selection, products, sidecar, Sky.read(directory / "truth.json"))


def check_sources(products: ImageProducts, sky: Sky, min_expected: int) -> None:
    """Sources over 20σ inside half power come out; above 7σ nothing else does."""
    found = peaks(products.image, products.noise, products.pb, min_snr=7)
    _, wcs, header = plane(products.image)
    noise = plane(products.noise)[0]
    x, y = wcs.world_to_pixel(sky.position)
    expected = np.flatnonzero(sky.inside(products.pb, 0.51))
    snr = np.array([sky.flux_jy[k] / noise[round(float(y[k])), round(float(x[k]))] for k in expected])
    assert (snr > 20).sum() >= min_expected
    for source, ratio in zip(expected, snr, strict=True):
        if ratio <= 20:
            continue
        distance = found.position.separation(sky.position[source]).deg
        nearest = int(np.argmin(distance))
        assert distance[nearest] < header["BMIN"] / 10, sky.names[source]
        true = sky.flux_jy[source]
        error = abs(found.flux_jy[nearest] - true)
        assert error < max(0.03 * true, 3 * true / ratio), (
            f"{sky.names[source]}: {found.flux_jy[nearest]}, true {true}"
        )
    invented = [
        snr
        for position, snr in zip(found.position, found.snr, strict=True)
        if position.separation(sky.position).deg.min() > header["BMAJ"]
    ]
    assert not invented


def test_sources_come_out_and_nothing_else(made):
    check_sources(made.products, made.sky, 12)


def test_noise_is_what_the_sefd_predicts(made):
    assert 0.9 < made.sidecar["noise_jy"] / made.sidecar["thermal_noise_jy"] < 1.2
    noise, pb = plane(made.products.noise)[0], plane(made.products.pb)[0]
    centre = noise[pb > 0.9]
    assert np.median(centre) == pytest.approx(made.sidecar["noise_jy"], rel=0.15)


def test_products_fit_together_and_say_what_they_are(made):
    image, wcs, header = plane(made.products.image)
    noise, pb = plane(made.products.noise)[0], plane(made.products.pb)[0]
    assert image.shape == noise.shape == pb.shape == (made.sidecar["size"],) * 2
    cutoff = config.Imaging().pb_cutoff
    assert (np.isfinite(image) == (pb >= cutoff)).all()
    assert (np.isfinite(noise) == (pb >= cutoff)).all()
    assert 0.9 < pb.max() <= 1.0
    with fits.open(made.products.image) as opened:
        assert opened[0].data.dtype == np.dtype(">f4")
        assert opened[0].data.ndim == 4
        full = WCS(opened[0].header)
    assert list(full.wcs.ctype) == ["RA---SIN", "DEC--SIN", "FREQ", "STOKES"]
    assert full.wcs.radesys == "ICRS"
    beam = made.sidecar["beam"]
    expected = {
        "BUNIT": "Jy/beam",
        "TELESCOP": "OVRO_MMA",
        "INSTRUME": "DSA",
        "OBJECT": made.ms.stem,
        "TIMESYS": "UTC",
        "VERDICT": "nearest",
        "CALAGE": 4.5,
        "CALSET": "20260113T093000",
        "QUALITY": made.sidecar["quality"],
        "BMAJ": beam["major_arcsec"] / 3600,
        "BMIN": beam["minor_arcsec"] / 3600,
        "RESTFRQ": made.sidecar["frequency_hz"],
        "IMAGER": "contimg",
    }
    for key, value in expected.items():
        assert header[key] == (value if isinstance(value, str) else pytest.approx(value)), key
    assert header["DATE-OBS"].startswith("2026-01-13T05:00:0")
    assert header["EXPTIME"] == pytest.approx(309.24, abs=0.01)
    # The band lacks subband 07, which lies above its middle.
    assert 1.400e9 < made.sidecar["frequency_hz"] < 1.4052e9
    assert wcs.wcs.crval == pytest.approx(imaging_group.centre_deg(simulator.SMALL), abs=1e-4)
    assert made.products.png.stat().st_size > 10_000


def test_the_sidecar_tells_quality_and_origin(made):
    sidecar = made.sidecar
    assert (sidecar["group"], sidecar["verdict"], sidecar["age_hours"]) == (made.ms.stem, "nearest", 4.5)
    assert sidecar["warning"] == "no active set"
    assert (sidecar["quality"], sidecar["reasons"]) == ("clean", [])
    assert sidecar["missing_subbands"] == [7]
    assert sidecar["partial_subbands"] == {"02": 23, "05": 15, "11": 23}
    assert sidecar["antennas"] == 46
    assert 0.08 < sidecar["flagged_fraction"] < 0.25
    assert sidecar["sources"] >= 12
    assert sidecar["catalogue"] is None
    assert sidecar["dynamic_range"] == pytest.approx(sidecar["peak_jy"] / sidecar["noise_jy"])
    assert 0 < sidecar["smearing"] <= config.Imaging().smearing_limit


def test_the_calibration_beam_is_that_of_the_solutions_used(made):
    assert made.sidecar["calibration_beams"] == ["airy 3.2 deg at 1400 MHz"]
    assert not any("primary beam" in reason for reason in made.sidecar["reasons"])


def test_the_beam_is_the_mean_over_drift_and_band(made):
    from contimg.core.sections import Beam
    from contimg.telescope import beam
    from contimg.telescope.beam import separation

    pb, wcs, _ = plane(made.products.pb)
    with_pointing = call_in_process(pointings, made.ms)
    frequencies = np.linspace(1.311e9, 1.4986e9, 96)
    for dx, dy in ((0, 0), (150, -90), (-200, 120)):
        column, row = round(wcs.wcs.crpix[0] - 1 + dx), round(wcs.wcs.crpix[1] - 1 + dy)
        ra, dec = np.radians(wcs.wcs_pix2world([[column, row]], 0)[0])
        angle = separation(with_pointing[:, 0], with_pointing[:, 1], ra, dec)
        expected = beam.of(Beam()).radial(angle[:, None], frequencies[None]).mean()
        assert pb[row, column] == pytest.approx(expected, rel=5e-3)


def pointings(ms: Path) -> np.ndarray:
    from casacore import tables

    with tables.table(str(ms / "POINTING"), ack=False) as table:
        return table.getcol("DIRECTION")[:, 0]


def test_a_catalogue_and_gates_are_heard(made, tmp_path, caplog):
    """The true sky with fluxes 40 % too high, noise over its gate, and a set better than the field."""
    catalogue = tmp_path / "sky.csv"
    lines = ["ra_deg,dec_deg,flux_jy"]
    for position, flux in zip(made.sky.position, made.sky.flux_jy, strict=True):
        lines.append(f"{position.ra.deg:.8f},{position.dec.deg:.8f},{1.4 * flux:.6f}")
    catalogue.write_text("\n".join(lines) + "\n")
    sections = {
        "sky_catalogue": {"path": str(catalogue)},
        "imaging": {"field_of_view_deg": 1.6},
        "quality": {"max_noise_over_thermal": 0.5},
    }
    alone = {"verdict": "nearest", "age_hours": 5.0, "expected_error": 1e-6, "warning": "5 h before"}
    selection = files.read_json(made.selection) | {"verdict": "field", "age_hours": 0.0, "without_field": alone}
    files.write_json(tmp_path / "by_field.json", selection)
    with caplog.at_level(logging.WARNING):
        products, sidecar = run(tmp_path, made.ms, tmp_path / "by_field.json", **sections)
    assert {key: sidecar[key] for key in alone} == alone
    assert (sidecar["flux_scale"], sidecar["refinement"]["kept"]) == (None, False)
    assert any("phase scatter" in failed for failed in sidecar["refinement"]["failed"])
    assert sidecar["quality"] == "degraded"
    noise, *told = sidecar["reasons"]
    assert [text.partition(" is -0.2")[0] for text in told] == ["validation: flux_scale"]
    assert sidecar["validation"]["checks"]["flux_scale"]["gate"] == "soft"
    assert "× thermal, over 0.5" in noise
    assert sidecar["catalogue"]["matches"] >= 3
    assert sidecar["catalogue"]["flux_ratio"] == pytest.approx(1 / 1.4, rel=0.03)
    assert sidecar["catalogue"]["flux_scatter"] == sidecar["validation"]["checks"]["flux_scatter"]["value"] < 0.1
    assert sidecar["catalogue"]["offset_beams"] < 0.1
    assert "degraded: noise" in caplog.text
    header = fits.getheader(products.image)
    assert header["QUALITY"] == "degraded"
    assert "degraded: noise" in str(header["HISTORY"])


def test_a_set_without_good_gains_makes_no_image(made, tmp_path):
    gains = imaging_group.true_gains(made.directory)
    gains.gain_good[:] = False
    options = settings(made.directory).part(FieldCalibrationSettings)
    with pytest.raises(UnusableSetError, match=f"{made.ms.name}: no unflagged visibility has a good gain"):
        self_calibration.make(made.ms, gains, tmp_path, options, 2, set_error=None)


def test_pure_noise_is_thermal_noise(tmp_path):
    """For weightings near uniform and natural."""
    ms = call_in_process(imaging_group.make, tmp_path, simulator.SMALL, [], seed=3, corruptions=simulator.PERFECT)
    for robust in (-1.0, 2.0):
        options = settings(tmp_path, imaging={"robust": robust, "field_of_view_deg": 3.0})
        averaged = average(ms, None, field_image.image_plan(options.imaging, options.beam), 2)
        made = field_image.make(averaged, tmp_path / f"{robust}", options.part(FieldImageSettings), 2)
        assert made.noise_jy / made.averaged.thermal_noise_jy == pytest.approx(1.0, abs=0.05)
        assert made.find_sources(6.5, 0.5) == []
