"""Pages: light with a long history, whole with none, live, and closed to paths that lead elsewhere."""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from bookkeeping import Played, group_row
from http_service import Served, listening, served
from lived_root import CountedSource, lived
from PIL import Image

from contimg.cli import main
from contimg.core import files
from contimg.core.paths import group_id
from contimg.dashboard import details, now, pages, pictures, sky, trends
from contimg.execute.lease import acquire
from contimg.service.metrics import render
from contimg.service.source import DataSource

MOMENT = 1_790_000_000.0
HISTORIES = (10_000, 100_000)
"""Groups: five weeks, and a year."""
MOST_BYTES = 300_000


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> list[CountedSource]:
    """A short and a long history."""
    roots = [lived(tmp_path_factory.mktemp("lived") / "root", groups, MOMENT) for groups in HISTORIES]
    return [CountedSource(lambda root=root: root.settings, clock=lambda: MOMENT) for root in roots]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("pages") / "root") as made:
        played = made.played
        unit = played.whole_way(1, "3C48")
        picture = played.root.image(unit, "png")
        Image.new("RGB", (800, 800), "navy").save(picture)
        sidecar = played.root.image(unit, "json")
        files.write_json(sidecar, {**files.read_json(sidecar), "validation": {"gate": "pass"}})
        played.root.image(unit, "validation.html").write_text("<h1>pass</h1>")
        log = played.root.log(unit, "convert")
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text("converted <script>alert(1)</script>\n")
        (played.root.root / "secret.log").write_text("not for you")
        made.unit = unit
        yield made


PAGES: list[Any] = [
    ("now", pages.page_now),
    ("history 24h", lambda source: pages.page_history(source, "24h")),
    ("history 7d", lambda source: pages.page_history(source, "7d")),
    ("history 30d", lambda source: pages.page_history(source, "30d")),
    ("alerts", pages.page_alerts),
    ("antennas", pages.page_antennas),
]


@pytest.mark.parametrize("page", [page for _, page in PAGES], ids=[name for name, _ in PAGES])
def test_a_page_is_light_and_costs_the_same_with_a_long_history(lives: list[CountedSource], page: Any) -> None:
    served_with_it = sum((pages.STATIC / part).stat().st_size for part in pages._CSS_JS)
    work = []
    for source in lives:
        source.forget()
        before = source.instructions
        assert len(page(source).body) + served_with_it < MOST_BYTES
        work.append(source.instructions - before)
    assert work[1] < 1.2 * work[0] + 1000


def test_the_figures_are_those_of_the_ledger(service: Served) -> None:
    content = now.content(service.source)
    assert content["queue"] == 0
    assert content["imaged"] == 1
    text = service.get("/").text
    assert re.search(r"<dt>Queue</dt><dd>0</dd>", text)
    assert "Nothing runs" in text


def test_calls_of_a_runner_that_is_gone_do_not_run(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    played.ledger.add_call(7, "convert", (played.arrive(1),), 1.0)
    source = DataSource(lambda: played.settings)
    lease = acquire(played.root)
    assert now.content(source)["in_work"] == 1
    assert "contimg_active_conversions 1.0" in render(source, "")[0].decode()
    lease.release()
    assert now.content(source)["in_work"] == 0
    assert "contimg_active_conversions 0.0" in render(source, "")[0].decode()


def test_the_antennas_page_shows_what_groups_files_say(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    source = DataSource(lambda: played.settings)
    name = group_id(datetime.fromtimestamp(source.now() - 600, UTC))
    newest = group_id(datetime.fromtimestamp(source.now() - 40 * 86400, UTC))
    described: dict[str, Any] = {
        "group": name,
        "sets": [],
        "names": ["3", "9"],
        "state": ["good", "failing"],
        "reasons": [[], ["X: 70% flagged"]],
        "phase_centre_deg": [128.7, 55.6],
        "flagged": [[0.1, 0.1], [0.7, 0.1]],
        "silent_s": [0.0, 0.0],
    }
    files.write_json(played.root.path("antennas", name), described)
    files.write_json(played.root.path("antennas", newest), described | {"group": newest, "names": ["77", "9"]})
    played.ledger.put_group(group_row(newest, played.settings))
    assert [row[0] for row in details.antennas(source)["rows"]] == ["9", "77"]  # of old data, the newest
    played.ledger.put_group(group_row(name, played.settings))
    with listening(source) as url:
        text = requests.get(url + "/antennas", timeout=20).text
    assert f"/group/{name}" in text
    assert "X: 70% flagged" in text
    assert text.count("◆<") == 1


def test_a_short_queue_is_in_the_picture(tmp_path: Path) -> None:
    """Two groups came after one quarter of an hour began and were gone before the next; one waits since yesterday."""
    played = Played(tmp_path / "root")
    stays = [("20260112T000000", -90_000.0, None)]
    short = [(f"20260112T0800{k}0", -2600.0 + k, -2400.0 + k) for k in range(2)]
    for name, came, went in (*stays, *short):
        ended = None if went is None else MOMENT + went
        played.ledger.put_group(group_row(name, played.settings, arrived=MOMENT + came, ended=ended))
    made = now.queue_chart(played.ledger, MOMENT)
    assert made["said"] == "Queue over 24 hours: 1 groups now, at most 3"
    assert made["data"]["series"][0]["values"] == [1.0] * 94 + [3.0] + [1.0] * 2


@pytest.mark.parametrize("path", ["/", "/history", "/history?span=30d", "/alerts"])
def test_every_page_works_with_no_data_and_with_no_ledger(tmp_path: Path, path: str) -> None:
    played = Played(tmp_path / "root")
    source = DataSource(lambda: played.settings)
    with listening(source) as url:
        assert requests.get(url + path, timeout=20).status_code == 200
        played.root.ledger.unlink()
        source.forget()
        answer = requests.get(url + path, timeout=20, headers={"Accept": "text/html"})
        assert "<title>" in answer.text
        assert answer.status_code == (200 if path == "/" else 503)
        assert "there is no ledger" in answer.text


def test_a_groups_page_has_its_way_and_its_logs(service: Served) -> None:
    text = service.get(f"/group/{service.unit}").text
    for part in ("Subbands", "Timeline", "convert", "solve", "contimg reprocess"):
        assert part in text
    assert service.get(f"/set/{service.unit}").status_code == 200
    assert service.get("/group/20300101T000000").status_code == 404
    assert service.get("/set/20300101T000000").status_code == 404


def test_the_command_to_make_a_group_again_is_one_that_does(tmp_path: Path) -> None:
    played = Played(tmp_path / "a root")
    source = DataSource(lambda: played.settings)
    acquire(played.root)  # a runner is at work
    done, given_up = played.whole_way(1), played.arrive(2)
    played.failed("detect", given_up, error_class="corrupt_input")
    for unit in (done, given_up):
        command, *arguments = shlex.split(details.group(source, unit)["again"])
        assert command == "contimg"
        assert main(arguments) == 0
    assert (played.row(done).state, played.row(done).stage) == ("due", "image")
    assert not played.root.quarantine(given_up).exists()
    assert details.group(source, done)["again"] == ""


@pytest.mark.parametrize(
    ("path", "status", "said"),
    [("/nothing", 404, "There is no such page"), ("/group/x", 422, "name: "), ("/history?span=1h", 422, "span: ")],
)
def test_a_browser_gets_a_page_where_there_is_none_and_a_program_json(
    service: Served, path: str, status: int, said: str
) -> None:
    page = service.get(path, headers={"Accept": "text/html,*/*"})
    assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
    assert said in page.text
    assert service.get(path).status_code == status
    assert service.get(path).json()["detail"]


def test_a_groups_page_says_which_sets_calibrate_it_and_which_do_not(service: Served) -> None:
    root, unit = service.played.root, service.unit
    chosen, refused = (str(root.calibration(name)) for name in (unit, "20260112T020000"))
    content = {"verdict": "fresh", "interpolated": True, "age_hours": 1.0, "sets": [chosen], "offsets_hours": [-1.0]}
    content |= {"note": "", "warning": "a warning of the selection"}
    content["considered"] = [{"set": refused, "offset_hours": -6.5, "reason": "its gate failed"}]
    files.write_json(root.image(unit, "selection.json"), content)
    text = re.sub(r"<[^>]+>", " ", service.get(f"/group/{unit}").text)
    for part in (
        "fresh, interpolated",
        f"{unit}  -1.0 h",
        "a warning of",
        "20260112T020000  -6.5 h: its gate failed",
    ):
        assert part in text


def test_states_on_the_sky_strip_differ_in_more_than_colour(service: Served) -> None:
    source = service.source
    marks = [sky.Mark(1.0 * n, 0.1, kind, kind) for n, kind in enumerate(("done", "due", "quarantined"))]
    content = now.content(source) | {"lst": 1.0}
    content["sky"] = content["sky"] | {"groups": marks}
    html = pages._templates.get_template("now/sky.html").render(**content)
    shapes = re.findall(r'class="group \w+" x="[^"]+" y="(\d+)" width="[^"]+" height="(\d+)"', html)
    assert len(set(shapes)) == len(shapes) == 3


def test_a_group_has_its_validation_page(service: Served) -> None:
    assert f'<a href="/validation/{service.unit}">Validation: pass</a>' in service.get(f"/group/{service.unit}").text
    page = service.get(f"/validation/{service.unit}")
    assert page.text == "<h1>pass</h1>"
    [policy] = [value for name, value in page.headers.items() if name.lower() == "content-security-policy"]
    assert "style-src 'unsafe-inline'" in policy
    assert "data:" in policy
    assert "script-src" not in policy
    assert service.get("/validation/20300101T000000").status_code == 404


def test_an_image_that_was_not_validated_has_a_page(service: Served) -> None:
    """Its record's null ended the page with an error."""
    sidecar = service.played.root.image(service.unit, "json")
    content = files.read_json(sidecar)
    files.write_json(sidecar, {**content, "validation": None})
    try:
        page = service.get(f"/group/{service.unit}")
    finally:
        files.write_json(sidecar, content)
    assert page.status_code == 200
    assert "Validation:" not in page.text


def test_pictures_are_small(service: Served) -> None:
    answer = service.get(f"/thumbnail/{service.unit}.jpg")
    assert answer.headers["content-type"] == "image/jpeg"
    assert len(answer.content) < 20_000
    assert service.get(f"/picture/image/{service.unit}.png").status_code == 200
    assert service.get("/thumbnail/20300101T000000.jpg").status_code == 404


@pytest.mark.parametrize(
    ("size_px", "kept", "shown"), [(800, 1.0, True), (800, 0.5, False), (800, 0.01, False), (20, 1, False)]
)
def test_a_picture_that_is_damaged_or_too_small_has_no_thumbnail(
    tmp_path: Path, size_px: int, kept: float, *, shown: bool
) -> None:
    root = Played(tmp_path / "root").root
    picture = root.image("20260112T080000", "png")
    picture.parent.mkdir(parents=True)
    Image.new("RGB", (size_px, size_px), "navy").save(picture)
    content = picture.read_bytes()
    picture.write_bytes(content[: round(kept * len(content))])
    assert bool(pictures.thumbnail(root, "20260112T080000")) is shown


def test_a_log_is_text_and_nothing_else_is_a_log(service: Served) -> None:
    root = service.played.root
    path = root.log(service.unit, "convert").relative_to(root.root)
    answer = service.get("/log", params={"path": str(path)})
    assert answer.headers["content-type"].startswith("text/plain")
    assert "converted" in answer.text
    for wrong in ("secret.log", "logs/../secret.log", "/etc/passwd", "logs", f"{path}\0", "state/ledger.sqlite3"):
        assert service.get("/log", params={"path": wrong}).status_code == 404, wrong


def test_nothing_on_a_page_is_inline_or_from_elsewhere(service: Served) -> None:
    for path in ("/", "/history", "/alerts", "/antennas", f"/group/{service.unit}", f"/set/{service.unit}"):
        text = service.get(path).text
        assert not re.search(r"<script(?![^>]*src=\"/static/)|\sstyle=|\son\w+=|(?:src|href)=\"https?:", text), path


def test_what_has_changed_is_sent_and_nothing_else(service: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "_LOOK_S", 0.1)
    with service.get("/events?page=alerts", stream=True) as stream:
        lines = (line for line in stream.iter_lines(decode_unicode=True) if line)
        first = json.loads(next(lines).removeprefix("data: "))
        assert set(first) == {"open", "figures", "week"}
        service.played.ledger.open_alert(
            "disk_free_gb", "", severity="critical", message="the disk is full", value=1.0, now=service.source.now()
        )
        second = json.loads(next(lines).removeprefix("data: "))
        assert "the disk is full" in second["open"]


def test_bins_hold_what_is_in_them(lives: list[CountedSource]) -> None:
    made = dict(trends.content(lives[1], "7d")["charts"])
    groups = made["Groups an hour"]["data"]["series"]
    inside = list(groups[0]["values"][1:-1])
    assert sum(inside) / len(inside) == pytest.approx(3600 / 309.24, rel=0.02)


@pytest.mark.parametrize(
    ("raw_bytes", "said", "unit", "shown"),
    [
        (0, "No raw data", "MB", 0.0),
        (90_000_000, "180.0 MB arrived", "MB", 180.0),
        (1_700_000_000, "3.4 GB arrived", "GB", 3.4),
        (600_000_000_000, "1.2 TB arrived", "TB", 1.2),
    ],
)
def test_raw_data_are_told_in_a_unit_of_their_size(raw_bytes: int, said: str, unit: str, shown: float) -> None:
    made = trends._volume(np.array([0.0, 3600.0]), [(60.0, None, raw_bytes), (70.0, None, raw_bytes)])
    assert (made["said"], made["data"]["unit"]) == (said, unit)
    assert made["data"]["series"][0]["values"] == [shown]


def test_service_levels_are_there_as_soon_as_they_are_measured(service: Served) -> None:
    source = DataSource(lambda: service.played.settings)
    assert trends.content(source, "24h")["levels"] == []
    end = time.monotonic() + 30
    while not trends.content(source, "24h")["levels"]:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_mark_over_midnight_is_cut_in_two() -> None:
    assert [(mark.start, mark.width) for mark in sky.unwrapped([sky.Mark(23.0, 3.0, "reach", "")])] == [
        (23.0, 1.0),
        (0.0, 2.0),
    ]


def test_sidereal_time_is_that_of_the_telescope() -> None:
    """2026-01-12 00:00 UTC at 118.2825° W: 23.538 h (astropy, mean)."""
    from astropy.time import Time

    expected = (
        Time("2026-01-12T00:00:00", scale="utc").sidereal_time("mean", longitude="-118.2825d", model="IAU1982").hour
    )
    assert sky.sidereal_hours(1768176000.0) == pytest.approx(expected, abs=1e-3)
