"""Next transits of calibrators, at the pointing's declination or elsewhere, and whether they will serve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from heapq import nlargest
from typing import Any

import numpy as np

from contimg.calibrators.detect import Candidate, DetectionSettings, judge
from contimg.calibrators.transit_geometry import BAND_CENTRE_HZ, main_lobe_rad, next_transit
from contimg.catalogues.calibrator import Calibrator
from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.ingest.manifest import names_in
from contimg.ingest.pointing_track import Drift
from contimg.telescope import beam, dsa110, meridian
from contimg.telescope.clock import to_jd

LOWEST_ELEVATION_DEG = 25.0
"""Lowest elevation (deg) at which a transit is requested."""
_LOOKED_AT = 50
"""Number of the newest manifests that are searched for a declination."""


def upcoming(
    declination_deg: float, after: datetime, sources: Sequence[Calibrator], settings: DetectionSettings
) -> list[Candidate]:
    """Next transit of each source that passes through the beam's main lobe, in the order of time.

    Each is judged as `detect` would judge it in a full group whose middle is the transit. The start times of groups
    are not known yet: the apparent flux in the real group is lower by a few per cent at most.

    Parameters
    ----------
    declination_deg
        Apparent declination of the pointing.
    after
        Transits at or after this moment.
    sources
        Calibrators (`calibrator_catalogue.load`).
    """
    after_jd = to_jd(after)
    ra = np.radians([source.ra_deg for source in sources])
    dec = np.radians([source.dec_deg for source in sources])
    now = np.array([after_jd])
    _, apparent_dec = meridian.icrs_to_apparent(now, ra[:, None], dec[:, None])
    offset = np.abs(apparent_dec[:, 0] - np.radians(declination_deg))
    near = np.flatnonzero(offset < main_lobe_rad(beam.of(settings.beam)))
    found = []
    for i, time in zip(near, next_transit(after_jd, ra[near], dec[near]), strict=True):
        _, candidates = judge(Drift.centred(float(time), declination_deg), sources, settings)
        found += [candidate for candidate in candidates if candidate.seen.source is sources[i]]
    return sorted(found, key=lambda candidate: (candidate.transit_jd, candidate.seen.source.name))


@dataclass(frozen=True)
class ObservableTransit:
    """A transit that would serve if the telescope pointed at it."""

    candidate: Candidate
    declination_deg: float
    """Apparent declination (deg) of the source, to point at."""

    def to_json(self) -> dict[str, Any]:
        """Plain content for a JSON file."""
        return {**self.candidate.to_json(), "declination_deg": self.declination_deg}


def observable_elsewhere(
    declination_deg: float,
    after: datetime,
    until: datetime,
    sources: Sequence[Calibrator],
    settings: DetectionSettings,
) -> Iterator[ObservableTransit]:
    """Transits between two moments that would serve at their own declinations, nearest to the pointing's first.

    Parameters
    ----------
    declination_deg
        Apparent declination of the pointing.
    after, until
        The first and last moment of a transit; less than a sidereal day apart, or each source's first one counts.
    sources
        Calibrators (`calibrator_catalogue.load`).
    """
    after_jd, until_jd = to_jd(after), to_jd(until)
    ra = np.radians([source.ra_deg for source in sources])
    dec = np.radians([source.dec_deg for source in sources])
    _, apparent = meridian.icrs_to_apparent(np.array([after_jd]), ra[:, None], dec[:, None])
    apparent_deg = np.degrees(apparent[:, 0])
    times = next_transit(after_jd, ra, dec)
    high = np.abs(apparent_deg - dsa110.LATITUDE_DEG) <= 90 - LOWEST_ELEVATION_DEG
    least_jy = settings.calibration.min_apparent_flux_jy
    fit = np.array([source.compact and source.flux(BAND_CENTRE_HZ) >= least_jy for source in sources], bool)
    within = np.flatnonzero(high & fit & (times <= until_jd))
    for i in within[np.argsort(np.abs(apparent_deg[within] - declination_deg), kind="stable")]:
        _, candidates = judge(Drift.centred(float(times[i]), float(apparent_deg[i])), sources, settings)
        for candidate in candidates:
            if candidate.seen.source is sources[i] and candidate.serves:
                yield ObservableTransit(candidate, float(apparent_deg[i]))


def current_pointing(root: DataRoot) -> tuple[str, float] | None:
    """Newest group and its declination (deg); None before the first group."""
    for group in nlargest(_LOOKED_AT, names_in(root.groups)):
        try:
            declination = files.read_json(root.manifest(group))["declination_deg"]
        except (OSError, ValueError, KeyError):
            continue
        if declination is not None:
            return group, float(declination)
    return None
