"""The runner's look at whether a calibrator has to be asked for: in a process of its own, told once."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from contimg.alerts.conditions import EVENTS
from contimg.calibrators.detect import DetectionSettings
from contimg.core.config import Settings
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id
from contimg.ledger.events import Tell
from contimg.observing import requests
from contimg.observing.request_poller import RequestPoller

NOW = datetime(2026, 1, 25, 12, tzinfo=UTC)


def after_a_look(poller: RequestPoller, settings: Settings, moment: datetime) -> list[Tell]:
    """Tick until the look that is due at a moment has ended."""
    deadline = time.monotonic() + 60
    events = poller.tick(settings.part(DetectionSettings), settings.alerts, moment.timestamp())
    while poller._background.runs("requests") and time.monotonic() < deadline:
        time.sleep(0.02)
        events += poller.tick(settings.part(DetectionSettings), settings.alerts, moment.timestamp())
    return events


def test_a_request_is_told_when_it_is_raised_and_when_it_is_closed(tmp_path: Path) -> None:
    root, settings = DataRoot(tmp_path), Settings(data_root=tmp_path)
    poller = RequestPoller(root)
    assert after_a_look(poller, settings, NOW) == []  # nobody knows yet where the telescope points
    write_json(root.manifest(group_id(NOW)), {"declination_deg": 54.57})
    assert after_a_look(poller, settings, NOW + timedelta(minutes=1)) == []  # it is not time to look again
    [raised] = after_a_look(poller, settings, NOW + timedelta(minutes=6))
    assert raised.kind == "request"
    assert "observe" in raised.text
    assert requests.open_request(root)["id"] == raised.subject
    assert after_a_look(poller, settings, NOW + timedelta(minutes=12)) == []
    observed = NOW + timedelta(minutes=13)
    content = {
        "group": group_id(observed),
        "calibrator": "J0834+5534",
        "observed_utc": observed.isoformat(),
        "quality": {"passed": True},
    }
    write_json(root.set(group_id(observed)), content)
    poller.poll_soon()
    [closed] = after_a_look(poller, settings, NOW + timedelta(minutes=14))
    assert closed.kind == "request_closed"
    assert "met by" in closed.text
    assert {raised.kind, closed.kind} <= set(EVENTS)
