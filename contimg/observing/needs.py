"""Need for a calibrator observation out of turn: reasons, calibrator, pointing, time; the telescope is not moved."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from contimg.calibrators.detect import DetectionSettings, has_calibrator
from contimg.calibrators.transits import ObservableTransit, observable_elsewhere, upcoming
from contimg.catalogues import calibrator_catalogue
from contimg.core.paths import DataRoot, group_id, jd_to_datetime
from contimg.sets.registry import CalibrationSet, Registry
from contimg.telescope import dsa110

_GROUP = timedelta(seconds=dsa110.INTEGRATIONS * dsa110.INTEGRATION_S)
_NOTICE = timedelta(minutes=15)
"""Lead time of a request before the earliest requested transit, in which the telescope is moved."""
_IN_WORK = timedelta(hours=2)
"""Time after a calibrator's observation during which its set may still be in work."""
_DAY = timedelta(hours=24)


def reasons_to_observe(
    root: DataRoot, registry: Registry, declination_deg: float, now: datetime, settings: DetectionSettings
) -> list[str]:
    """Reasons to observe a calibrator; empty while the calibration suffices.

    The reasons are the end of the newest good set's validity before the next usable transit at the present
    declination, and a failed gate of the last observed calibrator.

    Raises
    ------
    CatalogueError
        If a catalogue named in the settings cannot be read.
    """
    newest = registry.last_good(now)
    if _in_work(root, newest, now):
        return []
    transits = upcoming(declination_deg, now, calibrator_catalogue.load(settings.calibration), settings)
    following = next((transit for transit in transits if transit.serves), None)
    if following:
        next_utc = jd_to_datetime(following.transit_jd)
        when = f"the next usable transit at declination {declination_deg:+.2f}° is {following.seen.source.name} at "
        when += f"{next_utc:%Y-%m-%d %H:%M} UTC"
    else:
        next_utc = None
        when = f"no usable calibrator transits at declination {declination_deg:+.2f}°"
    reasons = []
    if newest is None:
        reasons.append(f"there is no good set, and {when}")
    elif next_utc is None or newest.valid_until < next_utc:
        until = f"{newest.valid_until:%Y-%m-%d %H:%M} UTC"
        reasons.append(
            f"the newest good set, {newest.group} on {newest.calibrator}, is valid until {until}, and {when}"
        )
    if failed := _failed_since(registry, newest, now):
        reasons.append(f"{failed.group} on {failed.calibrator} {failed.failures}")
    return reasons


def observation_to_request(
    newest: CalibrationSet | None, declination_deg: float, now: datetime, settings: DetectionSettings
) -> dict[str, Any] | None:
    """Calibrator to observe, with pointing and times.

    Choice: before the newest set's validity ends, the calibrator nearest in declination; otherwise the first transit.

    Returns
    -------
    dict or None
        `calibrator`, `apparent_flux_jy`, `declination_deg`, `transit_utc`, `from_utc` and `to_utc`; None where no
        calibrator of the catalogue can be observed within a day.
    """
    sources = calibrator_catalogue.load(settings.calibration)
    first = now + _NOTICE
    found: ObservableTransit | None = None
    if newest and newest.valid_until > first:
        found = next(observable_elsewhere(declination_deg, first, newest.valid_until, sources, settings), None)
    if found is None:
        in_a_day = observable_elsewhere(declination_deg, first, first + _DAY, sources, settings)
        found = min(in_a_day, key=lambda transit: transit.candidate.transit_jd, default=None)
    if found is None:
        return None
    content = found.candidate.to_json()
    transit = jd_to_datetime(found.candidate.transit_jd)
    return {
        "calibrator": {key: content[key] for key in ("name", "ra_deg", "dec_deg", "flux_jy", "flux_model")},
        "apparent_flux_jy": content["apparent_flux_jy"],
        "declination_deg": round(found.declination_deg, 4),
        "transit_utc": content["transit_utc"],
        # Groups follow each other: a group that begins in this range contains the transit.
        "from_utc": (transit - _GROUP).isoformat(timespec="seconds"),
        "to_utc": (transit + _GROUP).isoformat(timespec="seconds"),
    }


def _in_work(root: DataRoot, newest: CalibrationSet | None, now: datetime) -> bool:
    """Whether a calibrator was observed just now and its set is not made yet."""
    first = max(now - _IN_WORK, newest.observed) if newest else now - _IN_WORK
    days = sorted({f"{first:%Y-%m-%d}", f"{now:%Y-%m-%d}"})
    for group, _ in (made for day in days for made in root.made("calibrator", day)):
        recent = group_id(first) <= group <= group_id(now)
        if recent and not root.set(group).exists() and has_calibrator(root, group):
            return True
    return False


def _failed_since(registry: Registry, newest: CalibrationSet | None, now: datetime) -> CalibrationSet | None:
    """Last set that failed its gate within a day, unless a good set has come since."""
    recent = [known for known in registry.near(now, _DAY) if known.observed <= now]
    since = [known for known in recent if newest is None or known.observed > newest.observed]
    return since[-1] if since else None
