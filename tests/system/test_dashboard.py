"""The dashboard in a real browser, beside a real run: a group from arrival to image, an alert acknowledged."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from browser import Browser, browser
from daemons import TOKEN, Site, json_of, wait
from http_service import served

PICTURES = os.environ.get("DASHBOARD_PICTURES")
FITS = "[...document.querySelectorAll('.chart')].every(one => one.firstElementChild.offsetWidth <= one.clientWidth)"
GROUP = "document.querySelector('.images a')?.getAttribute('href')"


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("browser")) as made:
        yield made


@pytest.fixture(scope="module")
def done(site: Site, window: Browser) -> Site:
    """The site after its run, which the page Now has followed without being loaded again."""
    window.open(site.url)
    window.run("window.marked = true")
    runner = site.run()
    assert runner.wait(600) == 0
    window.until(f"Boolean({GROUP})", "the newest image is on the page")
    assert window.run("return window.marked"), "the page was not loaded again"
    return site


def group(site: Site) -> str:
    images = sorted((site.root / "images").glob("*/*.image.fits"))
    return images[-1].name.split(".")[0]


def test_a_group_is_followed_from_arrival_to_image(done: Site, window: Browser) -> None:
    window.open(done.url)
    window.click(".images a")
    window.until("document.querySelector('h1')?.innerText.includes('done')", "the group's page")
    text = window.text()
    for part in ("convert", "image", "clean", "Calibration", "contimg reprocess", "trace"):
        assert part in text, part
    window.click("a[href^='/log?']")
    window.until("location.pathname == '/log'", "a log")


def test_a_validation_page_shows_its_plots(done: Site, window: Browser) -> None:
    window.open(f"{done.url}/validation/{group(done)}")
    window.until("document.images[0]?.complete", "the plots are loaded")
    assert window.run("return document.images[0].naturalWidth") > 300
    assert window.run("return getComputedStyle(document.querySelector('table')).borderCollapse") == "collapse"
    assert window.errors() == []


def test_an_alert_is_acknowledged_by_a_click(done: Site, window: Browser) -> None:
    listed = f"{done.url}/api/alerts"
    wait(lambda: [one for one in json_of(listed)["alerts"] if one["open"]], 30, "an alert is open")
    window.open(f"{done.url}/alerts")
    window.until("Boolean(document.querySelector('[data-acknowledge]'))", "an alert to acknowledge")
    number = int(window.run("return document.querySelector('[data-acknowledge]').dataset.acknowledge"))
    window.click("[data-acknowledge]")
    window.type("[name=by]", "an operator")
    window.type("[name=token]", "a-token-that-is-wrong")
    window.click("dialog button.primary")
    window.until("document.querySelector('dialog .error').innerText.includes('wrong')", "the token is refused")
    window.run("document.querySelector('[name=token]').value = ''")
    window.type("[name=token]", TOKEN)
    window.click("dialog button.primary")
    window.until("document.querySelector('#open').innerText.includes('an operator')", "the page shows who")
    [alert] = [one for one in json_of(listed)["alerts"] if one["id"] == number]
    assert alert["acknowledged_by"] == "an operator"
    window.errors()  # the refused token's answer is one


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize(
    "path",
    ["/", "/history?span=7d", "/alerts", "/antennas", "/group/GROUP", "/validation/GROUP", "/set/SET"],
)
def test_a_page_has_no_error_and_no_serious_finding(done: Site, window: Browser, path: str, dark: bool) -> None:
    sets = [each.parent.name for each in (done.root / "calibration").glob("*/*/set.json")]
    where = path.replace("GROUP", group(done)).replace("SET", sets[0])
    window.theme(dark)
    window.open(done.url + where)
    window.until("document.readyState == 'complete'", "the page is loaded")
    window.until("document.querySelectorAll('.chart').length == document.querySelectorAll('.uplot').length", "charts")
    if path.startswith("/history"):
        window.until("document.querySelector('.levels tbody tr') || location.reload()", "service levels")
    assert window.serious() == []
    assert window.errors() == []
    height = window.run("return document.documentElement.scrollHeight")
    window.size(1600, min(max(900, height + 140), 1900))
    window.until(FITS, "charts fit into a smaller window")
    if PICTURES:
        name = path.strip("/").split("?")[0].split("/")[0] or "now"
        window.picture(Path(PICTURES) / f"dashboard-{name}{'-dark' if dark else ''}.png")
    window.size(1920, 1080)


def test_it_can_be_used_by_keyboard_alone(done: Site, window: Browser) -> None:
    window.open(done.url)
    tab, enter = "\ue004", "\ue007"
    window.key(tab)
    assert window.run("return document.activeElement.className") == "skip"
    for _ in range(4):
        window.key(tab)
        if window.run("return document.activeElement.innerText") == "History":
            break
    window.key(enter)
    window.until("location.pathname == '/history'", "History by keyboard")


def test_a_service_that_is_gone_is_told_on_the_page(window: Browser, tmp_path: Path) -> None:
    with served(tmp_path / "root") as service:
        window.open(service.url)
        window.until("document.getElementById('stale').hidden", "the page is up to date")
    window.until("!document.getElementById('stale').hidden", "the page says that it is old", 60)
    window.errors()


def test_what_a_page_costs(done: Site) -> None:
    total = sum(
        len(requests.get(done.url + path, timeout=20).content)
        for path in ("/", "/static/app.js", "/static/style.css", "/static/uPlot.iife.min.js", "/static/uPlot.min.css")
    )
    pictures = [f"/thumbnail/{group(done)}.jpg"] * 8
    total += sum(len(requests.get(done.url + path, timeout=20).content) for path in pictures)
    assert total < 300_000
