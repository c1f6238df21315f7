"""Transit times against astropy's own sidereal time, and the rule that every transit belongs to one group."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from astropy import units as u
from astropy.coordinates import TETE, EarthLocation, SkyCoord
from astropy.time import Time
from hypothesis import given, settings
from hypothesis import strategies as st

from contimg.calibrators.detect import DetectionSettings
from contimg.calibrators.transit_geometry import SIDEREAL_DAY, next_transit, transits_during
from contimg.calibrators.transits import observable_elsewhere, upcoming
from contimg.catalogues import calibrator_catalogue
from contimg.catalogues.calibrator import Calibrator, FluxModel
from contimg.core.config import Settings
from contimg.core.errors import ContimgError
from contimg.core.paths import jd_to_datetime
from contimg.ingest.pointing_track import Drift
from contimg.telescope import dsa110

LOCATION = EarthLocation.from_geodetic(dsa110.LONGITUDE_DEG, dsa110.LATITUDE_DEG, dsa110.ELEVATION_M)
START_JD = 2461065.5 + 0.25
AFTER = datetime(2026, 1, 25, 6, 0, tzinfo=UTC)

# Right ascensions crowd at the wrap, declinations at the pole, times at midnight and noon, where a Julian day begins.
RA = st.floats(0, 360, exclude_max=True) | st.floats(0, 1e-3) | st.floats(359.999, 360, exclude_max=True)
DEC = st.floats(-89.99, 89.99) | st.floats(89.0, 89.999)
JD = st.floats(2460000.0, 2461300.0) | st.builds(
    lambda day, offset: 2461000.0 + day / 2 + offset, st.integers(0, 400), st.floats(-0.004, 0.004)
)


def from_meridian(times_jd: np.ndarray, ra_deg: np.ndarray, dec_deg: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance from hour angle 0 by astropy's frames and sidereal time: in seconds of time, in arcsec on the sky."""
    time = Time(times_jd, format="jd", scale="utc", location=LOCATION)
    apparent = SkyCoord(ra_deg * u.deg, dec_deg * u.deg).transform_to(TETE(obstime=time, location=LOCATION))
    hour_angle = np.abs((time.sidereal_time("apparent") - apparent.ra).wrap_at(180 * u.deg))
    return hour_angle.deg * 240, hour_angle.arcsec * np.cos(apparent.dec)


@pytest.mark.parametrize("after_jd", [START_JD, 2460310.5, 2461236.9])
def test_transit_times_against_astropy(after_jd: float) -> None:
    random = np.random.default_rng(1)
    ra = np.append(random.uniform(0, 360, 200), [0.0, 359.99999, 128.7287672])
    dec = np.append(np.degrees(np.arcsin(random.uniform(-0.6, 0.9999, 200))), [54.57, 54.57, 55.5725197])
    times = next_transit(after_jd, np.radians(ra), np.radians(dec))
    seconds, arcsec = from_meridian(times, ra, dec)
    assert seconds.max() < 2
    assert arcsec.max() < 1
    assert (times >= after_jd).all()
    assert (times < after_jd + SIDEREAL_DAY + 1e-5).all()


@settings(max_examples=40, deadline=None)
@given(ra=RA, dec=DEC, after_jd=JD)
def test_next_transit_is_a_transit_and_the_next(ra: float, dec: float, after_jd: float) -> None:
    [time] = next_transit(after_jd, np.radians([ra]), np.radians([dec]))
    [seconds], [arcsec] = from_meridian(np.array([time]), np.array([ra]), np.array([dec]))
    # Polar motion, which TETE has not, moves the meridian by half an arcsec: next to the pole, seconds of hour angle.
    assert seconds < 2 or arcsec < 1
    assert after_jd <= time < after_jd + SIDEREAL_DAY + 1e-4


@settings(max_examples=60, deadline=None)
@given(
    ra=RA,
    dec=DEC,
    start_jd=JD,
    integrations=st.integers(1, 40),
    place=st.floats(0, 1, exclude_max=True),
)
def test_contiguous_groups_share_no_transit_and_lose_none(
    ra: float, dec: float, start_jd: float, integrations: int, place: float
) -> None:
    """Six contiguous groups laid around a transit, with it anywhere in them, the edges between them included."""
    ra_rad, dec_rad = np.radians([ra]), np.radians([dec])
    [transit] = next_transit(start_jd, ra_rad, dec_rad)
    length = integrations * dsa110.INTEGRATION_S / 86400
    start = transit - 3 * length + length * place + dsa110.INTEGRATION_S / 2 / 86400
    claims = []
    for _ in range(6):
        drift = Drift(start, integrations, dsa110.INTEGRATION_S, 54.57)
        claims.append(bool(transits_during(drift, ra_rad, dec_rad)[0]))
        start += integrations * dsa110.INTEGRATION_S / 86400
    assert sum(claims) == 1


def test_a_transit_just_past_is_not_the_next() -> None:
    random = np.random.default_rng(2)
    ra, dec = np.radians(random.uniform(0, 360, 100)), np.radians(random.uniform(-20, 88, 100))
    millisecond = 1e-3 / 86400
    for one in range(100):
        [first] = next_transit(START_JD, ra[[one]], dec[[one]])
        [same] = next_transit(first - 5 * millisecond, ra[[one]], dec[[one]])
        [following] = next_transit(first + 5 * millisecond, ra[[one]], dec[[one]])
        assert same == pytest.approx(first, abs=2 * millisecond, rel=0)
        assert following - first == pytest.approx(SIDEREAL_DAY, abs=3 / 86400)


def test_edge_of_a_group_is_half_an_integration_out() -> None:
    ra, dec = np.radians([128.7287672]), np.radians([55.5725197])
    [transit] = next_transit(START_JD, ra, dec)
    second = 1 / 86400
    half = dsa110.INTEGRATION_S / 2 * second
    for first_middle, inside in [
        (transit - half + 0.01 * second, True),
        (transit + half - 0.01 * second, True),
        (transit + half + 0.01 * second, False),
    ]:
        assert transits_during(Drift(first_middle, 24, dsa110.INTEGRATION_S, 54.57), ra, dec)[0] == inside
    span = 23 * dsa110.INTEGRATION_S * second
    for last_middle, inside in [(transit - half + 0.01 * second, True), (transit - half - 0.01 * second, False)]:
        assert transits_during(Drift(last_middle - span, 24, dsa110.INTEGRATION_S, 54.57), ra, dec)[0] == inside


def test_lower_culmination_is_no_transit() -> None:
    ra, dec = np.radians([40.0]), np.radians([89.5])
    [transit] = next_transit(START_JD, ra, dec)
    assert transits_during(Drift.centred(transit, 89.0), ra, dec)[0]
    assert not transits_during(Drift.centred(transit + SIDEREAL_DAY / 2, 89.0), ra, dec)[0]


def test_upcoming_is_in_time_order_and_says_what_serves(tmp_path: Path) -> None:
    everything = Settings(data_root=tmp_path).part(DetectionSettings)
    found = upcoming(54.57, AFTER, calibrator_catalogue.load(everything.calibration), everything)
    times = [jd_to_datetime(transit.transit_jd) for transit in found]
    assert times == sorted(times)
    assert times[0] >= AFTER
    assert times[-1] < AFTER + timedelta(days=1)
    by_name = {transit.seen.source.name: transit for transit in found}
    usual = by_name["J0834+5534"]
    assert usual.serves
    assert usual.seen.separation_deg == pytest.approx(55.5725 - 54.57, abs=0.15)
    assert not by_name["3C295"].serves
    assert "extended" in by_name["3C295"].reason
    assert "3C286" not in by_name


def test_each_source_is_in_what_comes_once(tmp_path: Path) -> None:
    """Though two may transit at nearly the same time."""
    pair = [
        Calibrator(name, ra_deg, 54.6, FluxModel.power_law(flux_jy, 0.0, "test"))
        for name, ra_deg, flux_jy in (("bright", 40.0, 9.0), ("faint", 40.1, 0.5))
    ]
    found = upcoming(54.57, AFTER, pair, Settings(data_root=tmp_path).part(DetectionSettings))
    assert [one.seen.source.name for one in found] == ["bright", "faint"]
    assert [one.serves for one in found] == [True, False]


def test_elsewhere_only_what_serves_and_is_high_enough(tmp_path: Path) -> None:
    def at(name: str, ra_deg: float, dec_deg: float, flux_jy: float = 5.0, compact: bool = True) -> Calibrator:
        return Calibrator(name, ra_deg, dec_deg, FluxModel.power_law(flux_jy, 0.0, "test"), compact)

    sources = [
        at("near", 100.0, 50.0),
        at("nearer", 120.0, 58.0),
        at("low", 110.0, -28.5),  # culminates at an elevation of 24.3°
        at("lowest", 110.0, -26.5),
        at("faint", 115.0, 30.0, 0.9),
        at("wide", 105.0, 40.0, compact=False),
        at("blended", 130.0, 20.0),
        at("blend", 130.5, 20.5, 6.0, compact=False),
        at("late", 300.0, 54.0),
    ]
    settings = Settings(data_root=tmp_path).part(DetectionSettings)
    [first] = next_transit(START_JD, np.radians([100.0]), np.radians([50.0]))
    begin = jd_to_datetime(first) - timedelta(minutes=1)
    found = list(observable_elsewhere(54.57, begin, begin + timedelta(hours=3), sources, settings))
    assert [one.candidate.seen.source.name for one in found] == ["nearer", "near", "lowest"]
    # Pointed there, it is in the middle of the beam.
    assert all(one.candidate.seen.separation_deg < 0.03 for one in found)


def test_manifest_that_does_not_say_where_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "20260125T060000.json"
    path.write_text(
        json.dumps({"start_jd": START_JD, "integrations": 24, "integration_s": 12.9, "declination_deg": None})
    )
    with pytest.raises(ContimgError, match="does not say declination_deg"):
        Drift.of_group(path)
