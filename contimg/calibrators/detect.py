"""Detection of the calibrator that transits in a group, from the group's header and the catalogue alone.

Every source of the catalogue that transits during the group inside the beam's main lobe is a candidate. Candidates
are ranked by apparent flux: flux at the band's centre times the beam, averaged over the group's integrations. The
brightest point source that is bright enough and not badly blended is the group's calibrator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from contimg.calibrators import field_strength
from contimg.calibrators.transit_geometry import (
    BAND_CENTRE_HZ,
    main_lobe_rad,
    mean_response,
    next_transit,
    offsets,
    transits_during,
)
from contimg.catalogues import calibrator_catalogue
from contimg.catalogues.calibrator import Calibrator
from contimg.core import files
from contimg.core.paths import DataRoot, group_of, jd_to_datetime
from contimg.core.sections import Beam, Calibration, SkyCatalogue
from contimg.ingest.pointing_track import Drift
from contimg.telescope import beam

_COMPANION_SHARE = 0.01
"""Least share of the catalogued flux in the beam for a source to be listed as a companion."""


@dataclass(frozen=True)
class DetectionSettings:
    """Settings of detection: gates and catalogues of calibrators, primary beam, catalogue of the field."""

    calibration: Calibration
    beam: Beam
    sky_catalogue: SkyCatalogue


@dataclass(frozen=True)
class InBeam:
    """A catalogue source in the beam of a group."""

    source: Calibrator
    apparent_flux_jy: float
    """Flux at the band's centre times the power beam, averaged over the integrations."""
    separation_deg: float
    """Distance (deg) from the beam's centre at the closest integration."""
    share: float
    """Share of the catalogued flux in the beam."""

    def to_json(self) -> dict[str, Any]:
        """Plain content for a JSON file."""
        return {
            "name": self.source.name,
            "ra_deg": self.source.ra_deg,
            "dec_deg": self.source.dec_deg,
            "flux_jy": self.source.flux_jy,
            "apparent_flux_jy": self.apparent_flux_jy,
            "separation_deg": self.separation_deg,
            "share": self.share,
            "flux_model": self.source.flux_model.to_json(),
        }


@dataclass(frozen=True)
class Candidate:
    """A source that transits in a group, and whether the group can be calibrated on it."""

    seen: InBeam
    transit_jd: float
    """Time of transit (UTC Julian date)."""
    serves: bool
    reason: str
    """Reason for which it serves or does not, in words."""

    def to_json(self) -> dict[str, Any]:
        """Plain content for a JSON file."""
        time = jd_to_datetime(self.transit_jd).isoformat(timespec="milliseconds")
        return {**self.seen.to_json(), "transit_utc": time, "serves": self.serves, "reason": self.reason}


def has_calibrator(root: DataRoot, group: str) -> bool:
    """Whether detection found a calibrator in a group; false before detection, and for an unreadable file."""
    try:
        return bool(files.read_json(root.calibrator(group))["calibrator"])
    except (OSError, ValueError, KeyError):
        return False


def detect(manifest: Path, settings: DetectionSettings) -> dict[str, Any]:
    """Find the calibrator that transits in a group.

    Parameters
    ----------
    manifest
        The group's manifest.

    Returns
    -------
    dict
        Content of `calibrator.json`: `group`; `calibrator`, or None; `companions`, the other catalogue sources in its
        beam with at least 1 % of the flux, brightest first, for the solver's model; `candidates`, all that transit,
        ranked by apparent flux; `field`, how well the group's own field calibrates it (`field_strength.measure`);
        `reason`, the decision in words.

    Raises
    ------
    CatalogueError
        If a catalogue named in the settings cannot be read.
    ContimgError
        If the manifest does not say when and where the group was observed.
    """
    return detect_in(Drift.of_group(manifest), group_of(manifest), settings)


def detect_in(drift: Drift, group: str, settings: DetectionSettings) -> dict[str, Any]:
    """Find the calibrator that transits during a drift; returns the same as `detect` for the group's manifest."""
    in_beam, candidates = judge(drift, calibrator_catalogue.load(settings.calibration), settings)
    chosen = next((candidate for candidate in candidates if candidate.serves), None)
    companions = [seen for seen in in_beam if chosen and seen is not chosen.seen and seen.share >= _COMPANION_SHARE]
    return {
        "group": group,
        "calibrator": chosen.to_json() if chosen else None,
        "companions": [{**seen.to_json(), "compact": seen.source.compact} for seen in companions],
        "candidates": [candidate.to_json() for candidate in candidates],
        "field": field_strength.measure(drift, settings.sky_catalogue, settings.beam, settings.calibration),
        "reason": _outcome(drift, candidates, chosen, main_lobe_rad(beam.of(settings.beam))),
    }


def judge(
    drift: Drift, sources: Sequence[Calibrator], settings: DetectionSettings
) -> tuple[list[InBeam], list[Candidate]]:
    """Catalogue sources in a group's beam, and the group's candidates with their verdicts.

    Returns
    -------
    in_beam : list of InBeam
        All sources in the main lobe, ranked by apparent flux.
    candidates : list of Candidate
        Sources among them that transit during the group, in the same order.
    """
    if not sources:
        return [], []
    ra = np.radians([source.ra_deg for source in sources])
    dec = np.radians([source.dec_deg for source in sources])
    east, north = offsets(drift, ra, dec)
    separation = np.hypot(east, north)
    response = mean_response(beam.of(settings.beam), east, north)
    near = np.flatnonzero(response)
    transits = dict(zip(near, transits_during(drift, ra[near], dec[near]), strict=True))
    apparent = {i: float(sources[i].flux(BAND_CENTRE_HZ) * response[i]) for i in near}
    total = sum(apparent.values())
    ranked = sorted(near, key=lambda i: (-apparent[i], sources[i].name))
    seen = {
        i: InBeam(sources[i], apparent[i], float(np.degrees(separation[i].min())), apparent[i] / total)
        for i in ranked
    }
    in_beam = list(seen.values())
    crossing = [i for i in ranked if transits[i]]
    if not crossing:
        return in_beam, []
    # From a little before the group: the computed time of its transit may round to before the edge.
    times = next_transit(float(drift.edges_jd[0]) - 1e-6, ra[crossing], dec[crossing])
    candidates = []
    for i, time in zip(crossing, times, strict=True):
        serves, reason = _verdict(seen[i], in_beam, settings.calibration, settings.sky_catalogue)
        candidates.append(Candidate(seen[i], float(time), serves, reason))
    return in_beam, candidates


def _verdict(
    seen: InBeam, in_beam: Sequence[InBeam], calibration: Calibration, catalogue: SkyCatalogue
) -> tuple[bool, str]:
    """Whether a group can be calibrated on a source that transits in it, and why."""
    least = calibration.min_apparent_flux_jy
    where = f"{seen.apparent_flux_jy:.2f} Jy in the beam, {seen.separation_deg:.2f}° from its centre"
    if seen.apparent_flux_jy < least:
        return False, f"{where}: under min_apparent_flux_jy = {least:g}"
    if not seen.source.compact:
        return False, f"{where}: extended, so not a point source on the array's long baselines"
    strong = [other for other in in_beam if other is not seen and other.share > calibration.max_blend_fraction]
    for other in strong:
        if obstacle := _obstacle(other, seen, calibration, catalogue):
            name, share = other.source.name, f"{other.share:.0%}"
            return False, f"{where}: blend, {name} has {share} of the catalogued flux in the beam, {obstacle}"
    if strong:
        blend = ", ".join(f"{other.source.name} ({other.share:.0%} of the flux)" for other in strong)
        return True, f"{where}; blend with {blend}, which the field model takes in"
    return True, where


def _obstacle(other: InBeam, seen: InBeam, calibration: Calibration, catalogue: SkyCatalogue) -> str | None:
    """Obstacle to modelling a strong second source in the beam while solving on the first; None without any."""
    if not other.source.compact:
        return "and is extended: no point source models it"
    if other.apparent_flux_jy > seen.apparent_flux_jy:
        return "more than the candidate"
    if calibration.field_iterations == 0 and catalogue.path is None:
        return "and nothing models it (field_iterations is 0 and there is no sky catalogue)"
    return None


def _outcome(drift: Drift, candidates: Sequence[Candidate], chosen: Candidate | None, lobe_rad: float) -> str:
    """Decision for the group, in one line."""
    if chosen:
        time = jd_to_datetime(chosen.transit_jd)
        better = candidates[: candidates.index(chosen)]
        refused = "".join(f"; {other.seen.source.name} refused ({other.reason})" for other in better)
        return f"{chosen.seen.source.name} transits at {time:%H:%M:%S} UTC: {chosen.reason}{refused}"
    if candidates:
        refused = "; ".join(f"{candidate.seen.source.name}: {candidate.reason}" for candidate in candidates)
        return f"no calibrator: none of the {len(candidates)} that transit serves: {refused}"
    begin, end = (jd_to_datetime(edge) for edge in drift.edges_jd)
    return (
        f"no calibrator: no catalogue source within {np.degrees(lobe_rad):.1f}° of declination "
        f"{drift.declination_deg:+.2f}° transits between {begin:%H:%M:%S} and {end:%H:%M:%S} UTC"
    )
