"""The Earth's orientation is astropy's."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from astropy.time import Time
from astropy.utils import iers

from contimg.telescope import earth
from contimg.telescope.earth import orientation


@pytest.mark.parametrize(
    "mjd",
    [
        np.array([57753.3, 57753.9999, 57754.0, 57754.4]),  # a leap second at the end of 2016
        61052.8 + np.arange(24) / 6700,  # final values
        np.linspace(61300.1, 61320.7, 15),  # where the C04 series ends
        np.array([61600.5]),  # a prediction
    ],
)
def test_equal_to_astropy(mjd: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iers.conf, "auto_download", False)
    monkeypatch.setattr(iers.conf, "auto_max_age", None)
    table = iers.IERS_Auto.open()
    if mjd.max() > table["MJD"].value.max() - 1:
        pytest.skip("the installed table ends earlier")
    time = Time(mjd, format="mjd", scale="utc")
    found = orientation(mjd)
    np.testing.assert_allclose(found.ut1_utc_s, table.ut1_utc(time).to_value("s"), rtol=0, atol=1e-10)
    x, y = table.pm_xy(time)
    np.testing.assert_allclose(found.pole_x_rad, x.to_value("rad"), rtol=0, atol=1e-15)
    np.testing.assert_allclose(found.pole_y_rad, y.to_value("rad"), rtol=0, atol=1e-15)


def test_beyond_the_table_the_last_day_is_used_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    earth._warn.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            far = orientation(np.array([70000.0, 70001.5]))
    assert caplog.text.count("astropy-iers-data") == 1
    assert np.ptp(far.ut1_utc_s) == 0
