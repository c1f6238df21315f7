"""Requests for a calibrator observation: raised when calibration will run out, kept up to date, closed when met.

A request is `requests/<time it was raised>.json`; at most one is open. It names the calibrator, the declination, the
time range and the reasons. When a good set has come, or the calibration suffices again, the request is closed and
moved to `requests/closed/`.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from contimg.calibrators.detect import DetectionSettings
from contimg.calibrators.transits import current_pointing
from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import DataRoot, group_id
from contimg.core.sections import Alerts, Calibration
from contimg.observing import needs
from contimg.sets.registry import Registry

log = logging.getLogger(__name__)

_MISSED = timedelta(hours=1)
"""Delay of a new request after the end of a requested time that passed unused."""
_THERE_DEG = 1.0
"""Largest offset (deg) from the requested declination at which the telescope counts as pointed for the request."""


@dataclass(frozen=True)
class RequestChange:
    """Change of a request's state."""

    kind: Literal["raised", "updated", "closed"]
    request: dict[str, Any]

    @property
    def text(self) -> str:
        """Change in one line."""
        request = self.request
        name = f"calibration request {request['id']}"
        if self.kind == "closed":
            return f"{name} is closed: {request['closed_because']}"
        return f"{name} {self.kind}: {described(request)}"


def described(request: dict[str, Any]) -> str:
    """Request with its reasons, in one line."""
    begin, end = (datetime.fromisoformat(request[key]) for key in ("from_utc", "to_utc"))
    return (
        f"observe {request['calibrator']['name']} at declination {request['declination_deg']:+.2f}° from "
        f"{begin:%Y-%m-%d %H:%M} to {end:%H:%M} UTC, because {'; '.join(request['reasons'])}"
    )


def update(root: DataRoot, settings: DetectionSettings, now: datetime) -> RequestChange | None:
    """Raise, update or close the request, as needed.

    Returns
    -------
    RequestChange or None
        Change of the request; None without a change.

    Raises
    ------
    CatalogueError
        If a catalogue named in the settings cannot be read.
    """
    pointing = current_pointing(root)
    if pointing is None:
        return None
    _, declination_deg = pointing
    registry = Registry(root, settings.calibration)
    request = open_request(root)
    if request:
        closing = _closing(root, registry, declination_deg, request, now, settings)
        if closing:
            return _close(root, request, now, **closing)
        if not _missed(request, now):
            return None  # unchanged, as already announced
    reasons = needs.reasons_to_observe(root, registry, declination_deg, now, settings)
    wanted = (
        needs.observation_to_request(registry.last_good(now), declination_deg, now, settings) if reasons else None
    )
    if wanted is None:
        return None
    moment = _iso(now)
    new = {"id": group_id(now), "state": "open", "raised_utc": moment}
    request_now = {**new, **(request or {}), "updated_utc": moment, "reasons": reasons, **wanted}
    files.write_json(_path(root, request_now), request_now)
    return RequestChange("updated" if request else "raised", request_now)


def open_request(root: DataRoot) -> dict[str, Any] | None:
    """Open request; None without a readable one."""
    for path in sorted(root.requests.glob("[0-9]*.json")):
        try:
            return _sound(files.read_json(path), path)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: is no request (%s); it is left alone", path, in_words(error))
    return None


def _sound(request: dict[str, Any], path: Path) -> dict[str, Any]:
    """Request as it is written, complete, with its own name, times with a zone, and a declination.

    Raises
    ------
    ValueError, KeyError, TypeError
        If the file holds no request.
    """
    zones = [datetime.fromisoformat(request[key]).tzinfo for key in ("raised_utc", "to_utc")]
    if request["id"] != path.stem or None in zones or not math.isfinite(request["declination_deg"]):
        raise ValueError("its name, times or declination are impossible")
    described(request)
    return request


def send(request: dict[str, Any], calibration: Calibration, alerts: Alerts) -> str:
    """Post a request to `calibration.request_webhook`; returns the error without the address, empty on success."""
    import requests  # noqa: PLC0415 — only where there is something to send

    address = calibration.request_webhook
    if address is None:
        return ""
    try:
        answer = requests.post(address.get_secret_value(), json=request, timeout=alerts.timeout_seconds)
    except requests.RequestException as error:
        return type(error).__name__
    return "" if answer.status_code < 400 else f"it answered {answer.status_code}"


def _closing(  # noqa: PLR0917 — what a request depends on
    root: DataRoot,
    registry: Registry,
    declination_deg: float,
    request: dict[str, Any],
    now: datetime,
    settings: DetectionSettings,
) -> dict[str, Any] | None:
    """Reason to close a request: a set made since, or a calibration that suffices again."""
    newest = registry.last_good(now)
    if newest and newest.observed > datetime.fromisoformat(request["raised_utc"]):
        return {"closed_because": f"met by {newest.group} on {newest.calibrator}", "met_by": newest.path}
    on_its_way = abs(declination_deg - request["declination_deg"]) < _THERE_DEG and not _missed(request, now)
    if on_its_way or needs.reasons_to_observe(root, registry, declination_deg, now, settings):
        return None
    return {"closed_because": "nothing lacks any more", "met_by": None}


def _missed(request: dict[str, Any], now: datetime) -> bool:
    return now > datetime.fromisoformat(request["to_utc"]) + _MISSED


def _close(root: DataRoot, request: dict[str, Any], now: datetime, **how: Any) -> RequestChange:
    closed = {**request, "state": "closed", "closed_utc": _iso(now), **how}
    files.write_json(root.requests / "closed" / _path(root, request).name, closed)
    _path(root, request).unlink()
    return RequestChange("closed", closed)


def _path(root: DataRoot, request: dict[str, Any]) -> Path:
    return root.requests / f"{request['id']}.json"


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
