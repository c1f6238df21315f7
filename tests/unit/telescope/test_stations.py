"""The stations agree with what is published of the array: counts, arms, baselines."""

from __future__ import annotations

import erfa
import numpy as np

from contimg.telescope import dsa110, stations


def test_names_are_one_based_and_numbers_zero_based() -> None:
    assert stations.NAMES[0] == "1"
    assert stations.NAMES[-1] == "117"
    assert len(stations.NAMES) == 117
    assert len(stations.WITH_DATA) == 96
    silent = {int(stations.NAMES[number]) for number in set(range(117)) - set(stations.WITH_DATA)}
    assert silent == {10, 21, 22, 23, *range(52, 68), 117}


def test_baselines_have_the_published_lengths() -> None:
    positions = stations.positions()[list(stations.WITH_DATA)]
    lengths = np.linalg.norm(positions[:, None] - positions, axis=-1)[np.triu_indices(96, 1)]
    assert lengths.size + 96 == 4656
    assert np.isclose(lengths.min(), 5.75, atol=0.01)
    assert np.isclose(lengths.max(), 2602, atol=1)


def test_core_is_the_two_arms() -> None:
    core = list(stations.EAST_WEST_ARM + stations.NORTH_SOUTH_ARM)
    positions = stations.positions()[core]
    assert len(core) == 82
    assert 480 < np.linalg.norm(positions[:, None] - positions, axis=-1).max() < 484


def test_positions_are_relative_to_the_array_centre() -> None:
    longitude, latitude, height = erfa.gc2gd(erfa.WGS84, stations.positions() + stations.array_centre())
    assert np.isclose(np.degrees(longitude[0]), -118.2856408, atol=1e-9)
    assert np.isclose(np.degrees(latitude[51]), 37.2334531, atol=1e-9)
    assert np.isclose(height[117 - 1], 1182.6, atol=1e-4)
    centre = erfa.gc2gd(erfa.WGS84, stations.array_centre())
    expected = (np.radians(dsa110.LONGITUDE_DEG), np.radians(dsa110.LATITUDE_DEG), dsa110.ELEVATION_M)
    assert np.allclose(centre, expected, rtol=0, atol=1e-6)


def test_positions_cannot_be_changed_by_accident() -> None:
    assert not stations.positions().flags.writeable
