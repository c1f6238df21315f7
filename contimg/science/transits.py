"""When calibrators transit next at the declination that the telescope points at, and whether they will serve."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from contimg.config import Settings
from contimg.science.calibrator import Calibrator
from contimg.science.detect import Candidate, judge
from contimg.science.drift import Drift
from contimg.science.passage import MAIN_LOBE_RAD, next_transit
from contimg.telescope import meridian

_UNIX_EPOCH_JD = 2440587.5


def upcoming(
    declination_deg: float, after: datetime, sources: Sequence[Calibrator], settings: Settings
) -> list[Candidate]:
    """Next transit of each source that passes through the beam's main lobe, in the order of time.

    Each is judged as `detect` would judge it in a full group whose middle is the transit. Where the groups will
    begin is not known yet; the apparent flux in the real one is less, by a few per cent at most.

    Parameters
    ----------
    declination_deg
        Apparent declination of the pointing.
    after
        Transits at or after this moment.
    sources
        The catalogue (`catalogue.load`).
    """
    after_jd = _UNIX_EPOCH_JD + after.astimezone(UTC).timestamp() / 86400
    ra = np.radians([source.ra_deg for source in sources])
    dec = np.radians([source.dec_deg for source in sources])
    now = np.array([after_jd])
    _, apparent_dec = meridian.icrs_to_apparent(now, ra[:, None], dec[:, None])
    offset = np.abs(apparent_dec[:, 0] - np.radians(declination_deg))
    near = np.flatnonzero(offset < MAIN_LOBE_RAD)
    found = []
    for i, time in zip(near, next_transit(after_jd, ra[near], dec[near]), strict=True):
        _, candidates = judge(Drift.centred(float(time), declination_deg), sources, settings)
        found += [candidate for candidate in candidates if candidate.seen.source is sources[i]]
    return sorted(found, key=lambda candidate: (candidate.transit_jd, candidate.seen.source.name))
