"""Request poller: keeps the calibrator request up to date, in a separate process because it reads files and posts."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from functools import partial

from contimg.alerts.background_calls import BackgroundCalls, NoAnswer
from contimg.calibrators.detect import DetectionSettings
from contimg.core.paths import DataRoot
from contimg.core.sections import Alerts
from contimg.ledger.events import Tell
from contimg.observing import requests

_LOG = logging.getLogger(__name__)

_EVERY_S = 300.0
_LIMIT_S = 120.0
_PAUSE_S = 0.02
_NAME = "requests"


class RequestPoller:
    """Poller that checks every five minutes, and after each new set, for a calibrator to observe out of turn."""

    def __init__(self, root: DataRoot) -> None:
        self._root = root
        self._background = BackgroundCalls()
        self._next = 0.0

    def poll_soon(self) -> None:
        """Check at the next tick, because a set was made."""
        self._next = 0.0

    def tick(self, settings: DetectionSettings, alerts: Alerts, now: float) -> list[Tell]:
        """Changes of the request since the last tick; starts a check if it is due (Unix time, s)."""
        events = self._changes()
        if not 0 < self._next - now <= _EVERY_S and not self._background.runs(_NAME):
            self._next = now + _EVERY_S
            self._background.start(_NAME, partial(poll, self._root, settings, alerts, now), _LIMIT_S)
        return events

    def finish(self) -> list[Tell]:
        """Changes of the request by the running check, after its end."""
        events: list[Tell] = []
        while self._background.busy:
            events += self._changes()
            time.sleep(_PAUSE_S)
        return events

    def _changes(self) -> list[Tell]:
        events = []
        for answer in self._background.done().values():
            if isinstance(answer, NoAnswer):
                _LOG.warning("the request for a calibrator observation was not looked at (%s); tried again", answer)
            elif answer["text"]:
                kind = "request_closed" if answer["kind"] == "closed" else "request"
                events.append(Tell(kind, answer["id"], answer["text"]))
                if answer["wrong"]:
                    _LOG.warning("calibration.request_webhook: %s; the request is in requests/", answer["wrong"])
        return events


def poll(root: DataRoot, settings: DetectionSettings, alerts: Alerts, now: float) -> dict[str, str]:
    """Update the request and post a change.

    Returns
    -------
    dict
        `kind`, `id` and `text` of the change, and the error `wrong` of its posting; all empty without a change.
    """
    change = requests.update(root, settings, datetime.fromtimestamp(now, UTC))
    if change is None:
        return dict.fromkeys(("kind", "id", "text", "wrong"), "")
    return {
        "kind": change.kind,
        "id": change.request["id"],
        "text": change.text,
        "wrong": requests.send(change.request, settings.calibration, alerts),
    }
