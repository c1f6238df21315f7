"""Requests for a calibrator observation: raised once, kept, moved when missed, closed when met."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from contimg import cli
from contimg.calibrators.detect import DetectionSettings
from contimg.calibrators.transits import current_pointing, observable_elsewhere, upcoming
from contimg.catalogues import calibrator_catalogue
from contimg.core.config import Settings
from contimg.core.files import read_json, write_json
from contimg.core.paths import DataRoot, group_id
from contimg.core.sections import Alerts, Calibration
from contimg.observing import requests

NOON = datetime(2026, 1, 25, 12, tzinfo=UTC)
DECLINATION_DEG = 54.57


class Scene:
    """A data root that is pointed somewhere and has some sets."""

    def __init__(self, path: Path) -> None:
        self.root = DataRoot(path)
        self.settings = Settings(data_root=path).part(DetectionSettings)
        self.point(DECLINATION_DEG, NOON)

    def point(self, declination_deg: float, when: datetime) -> None:
        write_json(self.root.manifest(group_id(when)), {"declination_deg": declination_deg})

    def set(self, observed: datetime, *, passed: bool = True, calibrator: str = "J0834+5534") -> str:
        group = group_id(observed - timedelta(seconds=155))
        content = {
            "group": group,
            "calibrator": calibrator,
            "observed_utc": observed.isoformat(),
            "quality": {"passed": passed, "reasons": [] if passed else ["phase scatter 40 is over 20"]},
        }
        write_json(self.root.set(group), content)
        return group

    def update(self, now: datetime) -> requests.RequestChange | None:
        return requests.update(self.root, self.settings, now)

    def usable(self) -> list[datetime]:
        """The usable transits of the day that begins at noon."""
        found = upcoming(DECLINATION_DEG, NOON, calibrator_catalogue.load(self.settings.calibration), self.settings)
        return [datetime.fromisoformat(one.to_json()["transit_utc"]) for one in found if one.serves]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def quiet(scene: Scene, hours: float) -> datetime:
    """A moment after which no usable calibrator transits for so long at the declination pointed at."""
    just_after = timedelta(minutes=1)
    return next(
        moment + just_after
        for moment, following in pairwise([NOON, *scene.usable()])
        if following - moment > timedelta(hours=hours) + just_after
    )


def test_with_a_transit_to_come_in_time_nothing_is_asked_for(scene: Scene) -> None:
    transit = scene.usable()[0]
    now = transit - timedelta(hours=1)
    scene.set(now - timedelta(hours=1))
    assert scene.update(now) is None
    assert requests.open_request(scene.root) is None


def test_before_validity_ends_the_nearest_calibrator_is_asked_for_once(scene: Scene) -> None:
    now = quiet(scene, 4)
    group = scene.set(now)
    change = scene.update(now)
    assert change
    assert change.kind == "raised"
    request = change.request
    assert read_json(scene.root.root / "requests" / f"{request['id']}.json") == request
    transit = datetime.fromisoformat(request["transit_utc"])
    assert now < transit < now + timedelta(hours=3)  # while the set is valid
    begin, end = (datetime.fromisoformat(request[key]) for key in ("from_utc", "to_utc"))
    assert timedelta(seconds=300) < transit - begin < timedelta(seconds=320)
    assert timedelta(seconds=300) < end - transit < timedelta(seconds=320)
    assert group in request["reasons"][0]
    assert "next usable transit" in request["reasons"][0]
    # Pointed there, it is found as any transit is.
    sources = calibrator_catalogue.load(scene.settings.calibration)
    there = upcoming(request["declination_deg"], now, sources, scene.settings)
    mine = next(one for one in there if one.seen.source.name == request["calibrator"]["name"])
    assert mine.serves
    assert mine.seen.separation_deg < 0.02
    # No nearer declination would do.
    usable = list(
        observable_elsewhere(
            DECLINATION_DEG, now + timedelta(minutes=15), now + timedelta(hours=3), sources, scene.settings
        )
    )
    assert min(abs(one.declination_deg - DECLINATION_DEG) for one in usable) == pytest.approx(
        abs(request["declination_deg"] - DECLINATION_DEG), abs=1e-3
    )
    for minutes in (1, 10, 60):
        assert scene.update(now + timedelta(minutes=minutes)) is None
    assert len(list((scene.root.root / "requests").glob("*.json"))) == 1


def test_a_set_meets_it(scene: Scene) -> None:
    now = quiet(scene, 4)
    scene.set(now)
    raised = scene.update(now).request
    transit = datetime.fromisoformat(raised["transit_utc"])
    scene.point(raised["declination_deg"], transit - timedelta(minutes=10))
    assert scene.update(transit - timedelta(minutes=5)) is None  # on its way, still open
    group = scene.set(transit, calibrator=raised["calibrator"]["name"])
    change = scene.update(transit + timedelta(minutes=10))
    assert change.kind == "closed"
    assert change.request["met_by"].endswith(f"{group}/set.json")
    assert requests.open_request(scene.root) is None
    closed = read_json(scene.root.root / "requests" / "closed" / f"{raised['id']}.json")
    assert closed == change.request
    assert closed["raised_utc"] == raised["raised_utc"]


def test_missed_it_asks_for_another_time(scene: Scene) -> None:
    now = quiet(scene, 4)
    scene.set(now)
    first = scene.update(now).request
    late = datetime.fromisoformat(first["to_utc"]) + timedelta(hours=1, minutes=1)
    change = scene.update(late)
    assert change.kind == "updated"
    assert change.request["id"] == first["id"]
    assert datetime.fromisoformat(change.request["transit_utc"]) > late
    assert scene.update(late + timedelta(minutes=1)) is None


def test_a_failed_transit_is_asked_for_again(scene: Scene) -> None:
    transit = scene.usable()[0]
    now = transit - timedelta(hours=1)
    scene.set(now - timedelta(hours=1.5))
    failed = scene.set(now - timedelta(hours=1), passed=False)
    change = scene.update(now)
    assert change.kind == "raised"
    [reason] = change.request["reasons"]
    assert failed in reason
    assert "phase scatter 40" in reason
    scene.set(now + timedelta(minutes=20))
    assert scene.update(now + timedelta(minutes=30)).kind == "closed"


def test_a_set_in_work_is_waited_for(scene: Scene) -> None:
    now = quiet(scene, 4)
    scene.set(now - timedelta(hours=2))
    group = group_id(now - timedelta(minutes=20))
    write_json(scene.root.calibrator(group), {"group": group, "calibrator": {"name": "J0834+5534"}})
    unreadable = scene.root.calibrator(group_id(now + timedelta(minutes=100)))
    unreadable.parent.mkdir(parents=True, exist_ok=True)
    unreadable.write_text("noise")
    assert scene.update(now) is None
    assert scene.update(now + timedelta(hours=2)).kind == "raised"


def test_without_any_set_the_first_calibrator_is_asked_for(scene: Scene) -> None:
    now = quiet(scene, 1)
    request = scene.update(now).request
    assert "there is no good set" in request["reasons"][0]
    assert datetime.fromisoformat(request["transit_utc"]) - now < timedelta(hours=6)


def test_somebody_has_time_to_move_the_telescope(scene: Scene) -> None:
    """What transits within a quarter of an hour is not asked for."""
    soon = datetime.fromisoformat(scene.update(NOON).request["transit_utc"])
    [path] = scene.root.requests.glob("*.json")
    path.unlink()
    later = scene.update(soon - timedelta(minutes=14)).request
    assert datetime.fromisoformat(later["transit_utc"]) > soon


def test_before_the_first_group_nothing_is_asked_for(tmp_path: Path) -> None:
    assert requests.update(DataRoot(tmp_path), Settings(data_root=tmp_path).part(DetectionSettings), NOON) is None


def test_pointed_at_is_the_newest_group_that_says_so(scene: Scene) -> None:
    scene.point(16.27, NOON + timedelta(hours=1))
    write_json(scene.root.manifest(group_id(NOON + timedelta(hours=2))), {"declination_deg": None})
    assert current_pointing(scene.root) == (group_id(NOON + timedelta(hours=1)), 16.27)


@pytest.fixture
def webhook() -> Iterator[tuple[str, list[Any]]]:
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(500 if self.path == "/broken" else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", got
    server.shutdown()
    server.server_close()


def test_the_webhook_gets_the_request(scene: Scene, webhook: tuple[str, list[Any]]) -> None:
    address, got = webhook
    request = scene.update(quiet(scene, 1)).request

    def send(url: str | None) -> str:
        return requests.send(request, Calibration(request_webhook=url), Alerts())

    assert send(None) == ""
    assert send(f"{address}/") == ""
    assert got == [request]
    assert send(f"{address}/broken") == "it answered 500"
    assert send("http://127.0.0.1:9/secret") == "ConnectionError"


def test_commands(scene: Scene, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--data-root", str(scene.root.root)]
    scene.point(DECLINATION_DEG, datetime.now(UTC))
    assert cli.main(["transits", *where]) == 0
    table = capsys.readouterr().out
    assert "declination +54.57°" in table
    assert "J0834+5534" in table
    assert "0.0 Jy" not in table
    assert "under 0.1 Jy in the beam (with --json)" in table
    assert cli.main(["transits", "--json", "--after", "2026-01-25T06:00:00", *where]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["declination_deg"] == DECLINATION_DEG
    times = [one["transit_utc"] for one in content["transits"]]
    assert times == sorted(times)
    usual = next(one for one in content["transits"] if one["name"] == "J0834+5534")
    assert usual["serves"]
    assert usual["apparent_flux_jy"] > 5
    assert cli.main(["requests", *where]) == 0
    assert "no calibrator observation is asked for" in capsys.readouterr().out
    assert cli.main(["requests", "update", "--json", *where]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["state"] == "open"
    assert "raised: observe" in said.err
    assert cli.main(["requests", *where]) == 0
    assert "because there is no good set" in capsys.readouterr().out
    assert cli.main(["transits", "--data-root", str(scene.root.root / "empty")]) == 1
    assert "give --declination" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"raised_utc": "yesterday"},
        {"raised_utc": "2026-01-12T08:00:00"},
        {"declination_deg": "high"},
        {"declination_deg": float("nan")},
        {"id": "../../elsewhere"},
        {"calibrator": "3C48"},
        {"reasons": None},
        {"from_utc": "soon"},
    ],
)
def test_a_request_that_makes_no_sense_is_none(tmp_path: Path, content: dict[str, Any]) -> None:
    root = DataRoot(tmp_path)
    moment = "2026-01-12T08:00:00+00:00"
    times = dict.fromkeys(("raised_utc", "from_utc", "to_utc"), moment)
    whole = {"id": "20260112T080000", "declination_deg": 54.6, "calibrator": {"name": "3C48"}, "reasons": [], **times}
    write_json(root.requests / "20260112T080000.json", whole)
    assert requests.open_request(root) == whole
    write_json(root.requests / "20260112T080000.json", whole | content if content else {})
    (root.requests / "20260112T070000.json").mkdir()
    assert requests.open_request(root) is None
