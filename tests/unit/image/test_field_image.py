"""Bright sources around a field are found beside those whose sidelobes hide others."""

from __future__ import annotations

import numpy as np
from synthetic_averages import at, averages

from contimg.core.config import validated
from contimg.image import field_image
from contimg.image.field_image import FieldImageSettings
from contimg.telescope import stations
from contimg.telescope.beam import separation

NOISE_JY = 5e-4


def test_bright_sources_are_found_beside_brighter_ones(tmp_path) -> None:
    """Of 24 antennas, whose sidelobes are high: 49 sources of 30 to 80 times the noise beside 1.5 and 0.13 Jy.

    Only where it is under 33 times the noise one may stay below ten times that of a wide look, which has sidelobes.
    """
    rng = np.random.default_rng(4)
    places = np.stack(np.meshgrid(np.arange(-60, 61, 20), np.arange(-60, 61, 20)), axis=-1).reshape(-1, 2)
    places = places + rng.uniform(-5, 5, places.shape)
    faint = [at(*place, flux) for place, flux in zip(places, rng.uniform(0.015, 0.04, len(places)), strict=True)]
    sky = [at(25.0, -33.0, 1.5), at(-47.0, 11.0, 0.13), *faint]
    averaged = averages(
        sky, noise_jy=NOISE_JY, field_rad=float(np.radians(3.5)), antennas=stations.WITH_DATA[::4], seed=3
    )
    settings = validated({"data_root": str(tmp_path)}).part(FieldImageSettings)
    found = field_image.bright_sources(averaged, settings, 2)
    away = [min(separation(other.ra_rad, other.dec_rad, one.ra_rad, one.dec_rad) for other in found) for one in sky]
    missed = [one.flux_jy for one, distance in zip(sky, away, strict=True) if distance > averaged.beam_rad / 5]
    assert len(missed) <= 1
    assert max(missed, default=0.0) < 33 * NOISE_JY
    assert len(found) == len(sky) - len(missed)
