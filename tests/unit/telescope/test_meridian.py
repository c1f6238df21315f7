"""The meridian's coordinates are pyuvdata's, to well under a millimetre."""

from __future__ import annotations

import numpy as np
import pytest
from astropy import units
from astropy.coordinates import EarthLocation, SkyCoord
from pyuvdata.utils import phasing
from pyuvdata.utils.times import get_lst_for_time

from contimg.telescope import dsa110, meridian, stations
from contimg.visibilities import model

TIMES_JD = 2461052.8 + np.arange(24) * dsa110.INTEGRATION_S / 86400
LOCATION = EarthLocation.from_geodetic(
    dsa110.LONGITUDE_DEG * units.deg, dsa110.LATITUDE_DEG * units.deg, dsa110.ELEVATION_M * units.m
)
DECLINATIONS = [np.radians(16.27), np.radians(54.57), np.radians(65.7)]


def test_sidereal_time_is_pyuvdatas() -> None:
    expected = get_lst_for_time(TIMES_JD, telescope_loc=LOCATION)
    np.testing.assert_allclose(meridian.sidereal_time(TIMES_JD), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("declination", DECLINATIONS)
def test_pointing_is_the_meridian_of_the_moment(declination: float) -> None:
    sidereal = get_lst_for_time(TIMES_JD, telescope_loc=LOCATION)
    expected = phasing.transform_app_to_icrs(
        time_array=TIMES_JD, app_ra=sidereal, app_dec=np.full(24, declination), telescope_loc=LOCATION
    )
    np.testing.assert_allclose(meridian.pointing(TIMES_JD, declination), expected, rtol=0, atol=1e-12)


def test_pointing_drifts_with_the_sky_and_the_centre_is_its_middle() -> None:
    declination = np.radians(54.57)
    ra, dec = meridian.pointing(TIMES_JD, declination)
    drift = np.degrees(np.diff(ra)) * 3600 / dsa110.INTEGRATION_S
    np.testing.assert_allclose(drift, 15.04, atol=0.02)  # arcsec of right ascension a second, sidereal
    assert np.ptp(dec) < np.radians(20 / 3600)  # precession and nutation tilt the meridian
    centre = meridian.group_centre(TIMES_JD, declination)
    middle = SkyCoord(ra[11:13].mean(), dec[11:13].mean(), unit="rad")
    assert middle.separation(SkyCoord(*centre, unit="rad")).arcsec < 0.01


@pytest.mark.parametrize("declination", DECLINATIONS)
def test_uvw_are_pyuvdatas(declination: float) -> None:
    positions = stations.positions()
    ra, dec = meridian.group_centre(TIMES_JD, declination)
    first, second = np.triu_indices(len(positions), 1)
    repeat = len(first)
    sidereal = get_lst_for_time(TIMES_JD, telescope_loc=LOCATION)
    app_ra, app_dec = phasing.transform_icrs_to_app(time_array=TIMES_JD, ra=ra, dec=dec, telescope_loc=LOCATION)
    angle = phasing.calc_frame_pos_angle(
        time_array=TIMES_JD, app_ra=app_ra, app_dec=app_dec, telescope_loc=LOCATION, ref_frame="icrs"
    )
    expected = phasing.calc_uvw(
        app_ra=np.repeat(app_ra, repeat),
        app_dec=np.repeat(app_dec, repeat),
        frame_pa=np.repeat(angle, repeat),
        lst_array=np.repeat(sidereal, repeat),
        antenna_positions=positions,
        antenna_numbers=np.arange(len(positions)),
        ant_1_array=np.tile(first, 24),
        ant_2_array=np.tile(second, 24),
        telescope_lat=LOCATION.lat.rad,
        telescope_lon=LOCATION.lon.rad,
    )
    uvw = meridian.icrs_uvw(positions, TIMES_JD, ra, dec)
    np.testing.assert_allclose((uvw[:, second] - uvw[:, first]).reshape(-1, 3), expected, rtol=0, atol=1e-6)


def test_meridian_uvw_does_not_depend_on_time() -> None:
    positions = stations.positions()
    declination = np.radians(54.57)
    uvw = meridian.meridian_uvw(positions, declination)
    # The meridian point itself, at any moment, is the ICRS direction of that moment.
    ra, dec = meridian.pointing(TIMES_JD[5:6], declination)
    towards = meridian.icrs_uvw(positions, TIMES_JD[5:6], ra[0], dec[0])[0]
    np.testing.assert_allclose(towards[:, 2], uvw[:, 2], rtol=0, atol=1e-6)
    np.testing.assert_allclose(np.hypot(*towards.T[:2]), np.hypot(*uvw.T[:2]), rtol=0, atol=1e-6)


def test_icrs_and_apparent_are_inverse_also_near_the_pole() -> None:
    ra, dec = np.full(24, 1.3), np.full(24, np.radians(89.9))
    there = meridian.icrs_to_apparent(TIMES_JD, ra, dec)
    back = meridian.apparent_to_icrs(TIMES_JD, *there)
    assert np.all(SkyCoord(*back, unit="rad").separation(SkyCoord(ra, dec, unit="rad")).arcsec < 1e-3)
    assert np.isfinite(meridian.north_angle(TIMES_JD, *there)).all()


@pytest.mark.parametrize("month", range(0, 12, 3))
@pytest.mark.parametrize("declination", DECLINATIONS)
def test_corrected_uvw_give_the_phases_of_apparent_places(declination: float, month: int) -> None:
    times = TIMES_JD + 30.4 * month
    positions = stations.positions()
    ra, dec = meridian.group_centre(times, declination)
    centre = SkyCoord(ra, dec, unit="rad")
    uvw = meridian.icrs_uvw(positions, times, ra, dec)
    corrected = meridian.for_icrs_directions(uvw, times.mean(), ra, dec)
    np.testing.assert_array_equal(corrected[..., 2], uvw[..., 2])
    apart = 0.0
    for angle in range(0, 360, 45):
        there = centre.directional_offset_by(angle * units.deg, 1.6 * units.deg)
        # What the array sees: the way to the source's own apparent place, less that to the centre's.
        truly = meridian.icrs_uvw(positions, times, there.ra.rad, there.dec.rad)[..., 2] - uvw[..., 2]
        cosines = model.direction_cosines(there.ra.rad, there.dec.rad, (ra, dec))
        apart = max(apart, np.abs(uvw @ cosines - truly).max())
        # Second order, over 2.6 km: 1e-4 · (0.028)² of a baseline, 0.2 mm; a degree of phase is 0.6 mm.
        np.testing.assert_allclose(corrected @ cosines, truly, rtol=0, atol=4e-4)
    assert apart > 1e-3
