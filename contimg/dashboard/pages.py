"""Pages, pictures and logs of the dashboard, and the event stream that updates them."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi import Path as InPath
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, StreamingResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from contimg import __version__
from contimg.core.paths import group_start
from contimg.dashboard import details, now, pictures, sky, trends
from contimg.service import alert_history
from contimg.service.security import SELF_CONTAINED
from contimg.service.source import DataSource, Source

router = APIRouter(tags=["dashboard"])

STATIC = Path(__file__).parent / "static"
_LOOK_S = 2.0
_ALIVE_S = 15.0
_MOST_STREAMS = 500
_UNKNOWN = "Neither the ledger nor the files know it."
_CSS_JS = ("uPlot.iife.min.js", "uPlot.min.css", "app.js", "style.css")


def _name(value: str) -> str:
    """Check a group id."""
    try:
        group_start(value)
    except ValueError:
        raise HTTPException(404, f"{value!r} is no group's name") from None
    return value


Name = Annotated[str, InPath(pattern=r"^\d{8}T\d{6}$")]


def _duration(seconds: float | None) -> str:
    """Duration in words."""
    if seconds is None:
        return "–"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _when(moment: float | None) -> str:
    """UTC text of a time (Unix, s)."""
    return "–" if moment is None else f"{datetime.fromtimestamp(moment, UTC):%Y-%m-%d %H:%M}"


def _numbers(values: Iterable[Any], form: str) -> str:
    """Numbers in one form, such as %.2f, with a minus sign as wide as a plus; – for a missing one."""
    return ", ".join((form % value).replace("-", "−") if isinstance(value, (int, float)) else "–" for value in values)


_templates = Environment(
    loader=PackageLoader("contimg.dashboard"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
)
_templates.filters.update(
    duration=_duration,
    when=_when,
    json=lambda value: json.dumps(value, separators=(",", ":")),
    level=trends.level_words,
    megabytes=trends.megabytes,
    numbers=_numbers,
)
_templates.globals.update(
    version=__version__,
    assets=hashlib.blake2b(b"".join((STATIC / name).read_bytes() for name in _CSS_JS), digest_size=6).hexdigest(),
)


def _page(source: DataSource, name: str, content: Mapping[str, Any], status: int = 200) -> HTMLResponse:
    html = _templates.get_template(f"{name}.html").render(
        page=name, root=source.root.root, lst=sky.sidereal_hours(source.now()), at=source.now(), **content
    )
    return HTMLResponse(html, status)


def _alerts(source: DataSource) -> dict[str, Any]:
    return alert_history.read(source, 7.0)


_CONTENT: Mapping[str, Callable[[DataSource], dict[str, Any]]] = {"now": now.content, "alerts": _alerts}


def _content(source: DataSource, page: str) -> dict[str, Any]:
    found: dict[str, Any] = source.shared(f"page {page}", lambda: _CONTENT[page](source), _LOOK_S)
    return found


def fragments(source: DataSource, page: str) -> dict[str, str]:
    """HTML sections of a page that are kept up to date, by their id."""

    def make() -> dict[str, str]:
        content = _content(source, page)
        names = [name for name in _templates.list_templates() if name.startswith(f"{page}/")]
        return {
            Path(name).stem: _templates.get_template(name).render(lst=sky.sidereal_hours(source.now()), **content)
            for name in names
        }

    found: dict[str, str] = source.shared(f"fragments {page}", make, _LOOK_S)
    return found


def missing(source: DataSource, what: str, why: str, status: int = 404) -> HTMLResponse:
    """Page with the reason why there is nothing to show."""
    return _page(source, "missing", {"what": what, "why": why}, status)


@router.get("/", response_class=HTMLResponse)
def page_now(source: Source) -> HTMLResponse:
    """Page Now: state of the pipeline at this moment."""
    return _page(source, "now", {"fragments": fragments(source, "now")})


@router.get("/favicon.ico", include_in_schema=False)
def icon() -> FileResponse:
    """Icon for pages without an icon of their own, such as logs."""
    return FileResponse(STATIC / "icon.svg", media_type="image/svg+xml")


@router.get("/history", response_class=HTMLResponse)
def page_history(source: Source, span: Annotated[Literal["24h", "7d", "30d"], Query()] = "24h") -> HTMLResponse:
    """Page History: the last day, week or month."""
    return _page(source, "history", trends.content(source, span) | {"spans": list(trends.SPANS)})


@router.get("/alerts", response_class=HTMLResponse)
def page_alerts(source: Source) -> HTMLResponse:
    """Page Alerts: open alerts, and all of the last week."""
    return _page(source, "alerts", {"fragments": fragments(source, "alerts")})


@router.get("/group/{name}", response_class=HTMLResponse, responses={404: {"description": "no such group"}})
def page_group(source: Source, name: Name) -> HTMLResponse:
    """Page of a group: subbands, calibration, quality, timeline, image, attempts."""
    content = details.group(source, _name(name))
    if content is None:
        return missing(source, f"group {name}", _UNKNOWN)
    return _page(source, "group", content)


@router.get("/set/{name}", response_class=HTMLResponse, responses={404: {"description": "no such set"}})
def page_set(source: Source, name: Name) -> HTMLResponse:
    """Page of a calibration set: quality, gains and bandpass, antennas."""
    content = details.calibration_set(source, _name(name))
    if content is None:
        return missing(source, f"set {name}", _UNKNOWN)
    return _page(source, "set", content)


@router.get("/antennas", response_class=HTMLResponse)
def page_antennas(source: Source) -> HTMLResponse:
    """Page Antennas: state of each antenna over time."""
    return _page(source, "antennas", details.antennas(source))


@router.get("/thumbnail/{name}.jpg", responses={404: {"description": "no such picture"}})
def thumbnail(source: Source, name: Name) -> Response:
    """Small picture of a group's image."""
    content = pictures.thumbnail(source.root, _name(name))
    if content is None:
        raise HTTPException(404, "there is no such picture")
    return Response(content, media_type="image/jpeg", headers={"Cache-Control": "max-age=300"})


@router.get("/picture/{kind}/{name}.png", responses={404: {"description": "no such picture"}})
def picture(source: Source, kind: Literal["image", "set"], name: Name) -> FileResponse:
    """Picture of a group's image or of a set."""
    root = source.root
    path = root.image(_name(name), "png") if kind == "image" else root.path("set_png", _name(name))
    if not path.is_file():
        raise HTTPException(404, "there is no such picture")
    return FileResponse(path, media_type="image/png", headers={"Cache-Control": "max-age=60"})


@router.get("/validation/{name}", responses={404: {"description": "no such page"}})
def validation_page(source: Source, name: Name) -> FileResponse:
    """Validation page of a group's image."""
    path = source.root.image(_name(name), "validation.html")
    if not path.is_file():
        raise HTTPException(404, "there is no such page")
    headers = {"Cache-Control": "max-age=60", "Content-Security-Policy": SELF_CONTAINED}
    return FileResponse(path, media_type="text/html", headers=headers)


@router.get("/log", response_class=PlainTextResponse, responses={404: {"description": "no such log"}})
def log(source: Source, path: Annotated[str, Query(max_length=300)]) -> PlainTextResponse:
    """End of a job's log; its path is relative to the data root."""
    text = details.log_text(source.root, path) if "\0" not in path else None
    if text is None:
        raise HTTPException(404, "there is no such log; logs go after retention.log_days")
    return PlainTextResponse(text)


_open: set[int] = set()
"""Open event streams, all in one thread."""


@router.get("/events", responses={503: {"description": "too many streams"}})
async def events(source: Source, request: Request, page: Literal["now", "alerts"]) -> StreamingResponse:
    """Sections of a page as they change: server-sent events."""
    if len(_open) >= _MOST_STREAMS:
        raise HTTPException(503, "too many pages are open")
    return StreamingResponse(
        _changes(source, request, page), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )


async def _changes(source: DataSource, request: Request, page: str) -> AsyncIterator[str]:
    sent: dict[str, str] = {}
    quiet_s = _ALIVE_S
    stream = id(sent)
    _open.add(stream)
    try:
        while not await request.is_disconnected():
            try:
                found = await asyncio.to_thread(fragments, source, page)
            except Exception as error:  # noqa: BLE001 — the page says so and goes on
                found = {"problem": f"<p>{type(error).__name__}</p>"}
            changed = {name: html for name, html in found.items() if sent.get(name) != html}
            if changed or quiet_s >= _ALIVE_S:
                sent |= changed
                quiet_s = 0.0
                yield f"data: {json.dumps(changed)}\n\n"
            quiet_s += _LOOK_S
            await asyncio.sleep(_LOOK_S)
    finally:
        _open.discard(stream)
