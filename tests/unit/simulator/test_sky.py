"""Skies to simulate, and when their calibrator transits."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from scipy.integrate import trapezoid

from contimg.core.errors import ConfigError
from contimg.simulator import scenarios, sky
from contimg.simulator.simulator import (
    SMALL,
)
from contimg.telescope import dsa110


def test_counts_are_those_of_surveys() -> None:
    flux = np.geomspace(2.5e-3, 30, 5000)
    per_square_degree = trapezoid(sky.differential_counts(flux), flux) * np.radians(1) ** 2
    assert np.isclose(per_square_degree, 50, rtol=0.15)  # NVSS: 1.8 million sources over 82 % of the sky
    normalised = sky.differential_counts(np.array([1e-3, 1e-2, 1e-1])) * np.array([1e-3, 1e-2, 1e-1]) ** 2.5
    assert np.allclose(np.log10(normalised), [0.859, 1.622, 2.363], atol=1e-3)  # the polynomial, by hand


def test_random_sky_has_the_counts_and_the_disc() -> None:
    sources = sky.random_sky((359.0, 54.0), 4.0, 5, 0.005, 3.0)
    flux = np.array([source.flux_jy for source in sources])
    grid = np.geomspace(0.005, 3.0, 5000)
    expected = trapezoid(sky.differential_counts(grid), grid) * 2 * np.pi * (1 - np.cos(np.radians(4.0)))
    assert abs(flux.size - expected) < 4 * np.sqrt(expected)
    bright = np.geomspace(0.05, 3.0, 5000)
    share = trapezoid(sky.differential_counts(bright), bright) / trapezoid(sky.differential_counts(grid), grid)
    assert abs((flux > 0.05).mean() - share) < 4 * np.sqrt(share / flux.size)
    assert (np.diff(flux) <= 0).all()
    ra, dec = np.radians([(source.ra_deg, source.dec_deg) for source in sources]).T
    cosine = np.sin(dec) * np.sin(np.radians(54)) + np.cos(dec) * np.cos(np.radians(54)) * np.cos(
        ra - np.radians(359)
    )
    distance = np.degrees(np.arccos(cosine))
    assert 3.9 < distance.max() < 4.0
    assert np.isclose(np.median(distance), 4 / np.sqrt(2), rtol=0.05)
    assert sources == sky.random_sky((359.0, 54.0), 4.0, 5, 0.005, 3.0)
    with pytest.raises(ConfigError, match="random sky"):
        sky.random_sky((0.0, 0.0), 1.0, 1, 1.0, 0.5)
    with pytest.raises(ConfigError, match="no such calibrator"):
        sky.calibrator("J0000+0000")


def test_calibrator_transits_amid_its_group() -> None:
    import astropy.units as u
    from astropy.coordinates import EarthLocation, HADec, SkyCoord
    from astropy.time import Time
    from astropy.utils import iers

    scenario = scenarios.transit_scenario(
        "J0834+5534",
        date(2026, 1, 20),
        groups=6,
        groups_before=2,
        group_s=SMALL.length_s,
        min_flux_jy=0.2,
        max_flux_jy=1.0,
        seed=1,
    )
    amid = scenario.start + timedelta(seconds=2.5 * SMALL.length_s)
    assert amid.date() == date(2026, 1, 20)
    place = EarthLocation(dsa110.LONGITUDE_DEG * u.deg, dsa110.LATITUDE_DEG * u.deg, dsa110.ELEVATION_M * u.m)
    source = scenario.sky[0]
    with iers.conf.set_temp("auto_download", False):
        seen = SkyCoord(source.ra_deg, source.dec_deg, unit="deg").transform_to(
            HADec(obstime=Time(amid), location=place)
        )
    assert abs(seen.ha.wrap_at(180 * u.deg).to_value("arcsec")) < 15 * 0.1
    assert np.isclose(seen.dec.deg, 55.48, atol=0.02)
    assert source.name == "J0834+5534"
    assert len(scenario.sky) > 20
    assert scenario.declination_deg == 54.57
