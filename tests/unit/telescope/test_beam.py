"""The primary beam: models, widths, tables, and what its name says."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import given
from hypothesis import strategies as st

from contimg.core import config
from contimg.core.errors import ConfigError
from contimg.core.sections import Beam
from contimg.telescope import beam, beam_table

MODELS = ("airy", "gaussian", "cosine-tapered")


@pytest.mark.parametrize("model", MODELS)
def test_a_model_has_the_width_that_is_set(model: str) -> None:
    made = beam.of(Beam(model=model, fwhm_deg=2.71, frequency_hz=1.4e9))
    half = np.radians(2.71 / 2)
    assert made.radial(0.0, 1.4e9) == pytest.approx(1)
    assert made.radial(half, 1.4e9) == pytest.approx(0.5, abs=1e-6)
    assert made.power(half * 0.6, half * -0.8, 1.4e9) == pytest.approx(0.5, abs=1e-6)
    assert made.radial(half / 1.1, 1.54e9) == pytest.approx(0.5, abs=1e-3)
    assert made.half_power_rad(1.4e9) == pytest.approx(half, rel=2e-3)
    assert made.name == f"{model} 2.71 deg at 1400 MHz"
    assert pickle.loads(pickle.dumps(made)).radial(half, 1.4e9) == pytest.approx(0.5, abs=1e-6)  # noqa: S301


def test_an_evenly_lit_dish_of_4_65_m_is_2_71_degrees_wide() -> None:
    # The first null of an evenly lit aperture is at 1.22 lambda/D.
    made = beam.of(Beam(model="airy", fwhm_deg=2.71))
    assert np.degrees(made.main_lobe_rad(1.4e9)) == pytest.approx(np.degrees(1.2197 * 0.21414 / 4.65), abs=0.02)
    tapered = beam.of(Beam(model="cosine-tapered", fwhm_deg=np.degrees(2 * 0.59448 * 0.21414 / (1.2 * 4.7))))
    x = np.linspace(0, 1.4, 50)
    expected = (np.cos(np.pi * x) / (1 - 4 * x**2 + 1e-12)) ** 2
    np.testing.assert_allclose(tapered.radial(x * 0.21414 / (1.2 * 4.7), 1.4e9), expected, atol=1e-4)


@given(st.floats(0, 6.28), st.floats(-1.5, 1.5), st.floats(0, 6.28), st.floats(-1.5, 1.5))
def test_offsets_are_the_separation_at_the_position_angle(ra: float, dec: float, ra0: float, dec0: float) -> None:
    from astropy.coordinates import SkyCoord

    east, north = beam.offsets(np.array(ra), np.array(dec), np.array(ra0), np.array(dec0))
    one, other = SkyCoord(ra0, dec0, unit="rad"), SkyCoord(ra, dec, unit="rad")
    assert np.hypot(east, north) == pytest.approx(one.separation(other).rad, abs=1e-9)
    if 1e-6 < one.separation(other).rad < 3.14:
        angle = one.position_angle(other).rad
        np.testing.assert_allclose([np.sin(angle), np.cos(angle)], [east, north] / np.hypot(east, north), atol=1e-6)


def _elliptical(l_deg: np.ndarray, m_deg: np.ndarray, frequency_hz: float) -> np.ndarray:
    """Gaussian, 3.0 x 2.6 degrees at 1.4 GHz, 0.2 degrees east of the pointing."""
    scale = frequency_hz / 1.4e9
    return np.exp(-4 * np.log(2) * scale**2 * (((l_deg - 0.2 / scale) / 3.0) ** 2 + (m_deg / 2.6) ** 2))


@pytest.mark.parametrize("suffix", [".h5", ".fits"])
@pytest.mark.parametrize("polarizations", [0, 2])
def test_a_table_of_l_m_and_frequency(tmp_path: Path, suffix: str, polarizations: int) -> None:
    axis, frequencies = np.linspace(-8, 8, 161), np.array([1.3e9, 1.5e9])
    power = np.array([_elliptical(axis, axis[:, np.newaxis], frequency) for frequency in frequencies])
    if polarizations:
        power = np.stack([0.9 * power, 1.1 * power])
    path = tmp_path / f"beam{suffix}"
    arrays = {"POWER": power, "L_DEG": axis, "M_DEG": axis, "FREQUENCY_HZ": frequencies}
    if suffix == ".h5":
        beam_table.write(path, arrays)
    else:
        units = [fits.ImageHDU(values, name=name) for name, values in arrays.items()]
        fits.HDUList([fits.PrimaryHDU(), *units]).writeto(path)
    made = beam.of(Beam(model="table", table=path))
    assert made.name.startswith(f"table beam{suffix} ")
    rng = np.random.default_rng(1)
    east, north = rng.uniform(-3, 3, (2, 40))
    for frequency in (1.3e9, 1.37e9, 1.5e9, 1.6e9):
        found = made.power(np.radians(east), np.radians(north), frequency)
        np.testing.assert_allclose(found, _elliptical(east, north, frequency), atol=2e-3)
    assert made.power(np.radians(20.0), 0.0, 1.4e9) == 0


def test_a_table_of_radii_is_the_model_that_it_was_made_from(tmp_path: Path) -> None:
    airy = beam.of(Beam())
    radii = np.linspace(0, 10, 401)
    path = tmp_path / "beam.h5"
    power = airy.radial(np.radians(radii), 1.4e9)[np.newaxis]
    beam_table.write(path, {"POWER": power, "RADIUS_DEG": radii, "FREQUENCY_HZ": np.array([1.4e9])})
    made = beam.of(Beam(model="table", table=path))
    angle, frequencies = np.radians(np.linspace(0, 5, 70)), np.array([1.31e9, 1.4e9, 1.5e9])
    expected = airy.radial(angle[:, np.newaxis], frequencies)
    np.testing.assert_allclose(made.radial(angle[:, np.newaxis], frequencies), expected, atol=2e-4)
    assert made.main_lobe_rad(1.4e9) == pytest.approx(airy.main_lobe_rad(1.4e9), rel=0.01)
    before = made.name
    beam_table.write(path, {"POWER": power**1.1, "RADIUS_DEG": radii, "FREQUENCY_HZ": np.array([1.4e9])})
    assert beam.of(Beam(model="table", table=path)).name != before


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"POWER": None}, "has no POWER"),
        ({"POWER": np.ones((2, 5))}, "POWER has shape"),
        ({"RADIUS_DEG": np.array([0, 1, 3, 4.0])}, "even steps"),
        ({"POWER": np.zeros((1, 4))}, "impossible"),
        ({"FREQUENCY_HZ": np.array([-1.0])}, "impossible"),
    ],
)
def test_a_bad_table_is_named(tmp_path: Path, change: dict, what: str) -> None:
    path = tmp_path / "beam.h5"
    arrays = {"POWER": np.ones((1, 4)), "RADIUS_DEG": np.arange(4.0), "FREQUENCY_HZ": np.array([1.4e9]), **change}
    beam_table.write(path, {name: values for name, values in arrays.items() if values is not None})
    with pytest.raises(ConfigError, match=what):
        beam.of(Beam(model="table", table=path))


def test_settings_of_the_beam_are_validated(tmp_path: Path) -> None:
    for section, what in (
        ({"model": "sinc"}, "beam.model"),
        ({"fwhm_deg": 0}, "beam.fwhm_deg"),
        ({"model": "table"}, "table goes with a file"),
        ({"table": "x.h5"}, "table goes with a file"),
    ):
        with pytest.raises(ConfigError, match=what):
            config.validated({"data_root": str(tmp_path), "beam": section}, {})
    with pytest.raises(ConfigError, match=r"beam.table: .*none.h5 cannot be read"):
        beam.of(Beam(model="table", table=tmp_path / "none.h5"))
