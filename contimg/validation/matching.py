"""Matching of sources with the entries of a catalogue."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from contimg.telescope.beam import separation

_MATCH_BEAMS = 1.0
"""Largest distance (beams) between a source and its catalogue entry."""
_LONELY_BEAMS = 3.0
"""Least distance (beams) to the next source, or entry, for a comparison."""
Directions = tuple[np.ndarray, np.ndarray]
"""Right ascensions and declinations (rad), both of shape (N,)."""


def pairs(found: Directions, listed: Directions, beam_rad: float) -> np.ndarray:
    """Indices of isolated sources and their catalogue entries, shape (matches, 2)."""
    if not len(found[0]) or not len(listed[0]):
        return np.empty((0, 2), int)
    mine, theirs = (cKDTree(_vectors(*positions)) for positions in (found, listed))
    lonely, match = (2 * np.sin(beams * beam_rad / 2) for beams in (_LONELY_BEAMS, _MATCH_BEAMS))
    alone = mine.query_ball_point(mine.data, lonely, return_length=True) == 1
    entries = theirs.query_ball_point(mine.data, lonely, return_length=True)
    distance, nearest = theirs.query(mine.data)
    chosen = np.flatnonzero(alone & (entries == 1) & (distance < match))
    return np.stack([chosen, nearest[chosen]], axis=1)


def has_neighbour(of: Directions, among: Directions, radius_rad: float) -> np.ndarray:
    """True for directions with another of `among` within a radius (rad), shape (N,)."""
    if not len(of[0]) or not len(among[0]):
        return np.zeros(len(of[0]), bool)
    distance, _ = cKDTree(_vectors(*among)).query(_vectors(*of))
    return distance < 2 * np.sin(radius_rad / 2)


def alone(of: Directions, beam_rad: float) -> np.ndarray:
    """True for directions without another of the same list within three beams, shape (N,)."""
    if not len(of[0]):
        return np.zeros(0, bool)
    tree = cKDTree(_vectors(*of))
    return tree.query_ball_point(tree.data, 2 * np.sin(_LONELY_BEAMS * beam_rad / 2), return_length=True) == 1


def first_of_each(of: Directions, radius_rad: float) -> np.ndarray:
    """Indices of the directions without an earlier one within a radius (rad), ascending, shape (K,)."""
    if not len(of[0]):
        return np.zeros(0, int)
    tree = cKDTree(_vectors(*of))
    near = tree.query_ball_point(tree.data, 2 * np.sin(radius_rad / 2))
    kept = np.ones(len(of[0]), bool)
    for number, others in enumerate(near):
        if kept[number]:
            kept[[other for other in others if other > number]] = False
    return np.flatnonzero(kept)


def circle_deg(of: Directions, beam_rad: float) -> tuple[float, float, float]:
    """Centre and radius (deg) of a circle around all directions and their neighbourhoods."""
    ra, dec = of
    if not len(ra):
        return 0.0, 0.0, 0.0
    x, y, z = np.mean(_vectors(ra, dec), axis=0)
    middle = np.arctan2(y, x), np.arctan2(z, np.hypot(x, y))
    radius = separation(*middle, ra, dec).max() + _LONELY_BEAMS * beam_rad
    return float(np.degrees(middle[0]) % 360), float(np.degrees(middle[1])), float(np.degrees(radius))


def _vectors(ra_rad: np.ndarray, dec_rad: np.ndarray) -> np.ndarray:
    """Unit vectors of directions, shape (N, 3)."""
    cosine = np.cos(dec_rad)
    return np.stack([cosine * np.cos(ra_rad), cosine * np.sin(ra_rad), np.sin(dec_rad)], axis=1)
