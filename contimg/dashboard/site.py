"""Web site: the service's application with the dashboard's pages."""

from __future__ import annotations

import sqlite3
from http import HTTPStatus

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler, request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

from contimg.core.errors import ContimgError
from contimg.dashboard import pages
from contimg.service import application
from contimg.service.source import DataSource


def create(source: DataSource) -> FastAPI:
    """Application of a data root with all pages."""
    app = application.create(source)
    application.include(app, pages.router)
    for kind in (ContimgError, sqlite3.Error, OSError):
        app.add_exception_handler(kind, _unavailable)
    app.exception_handler(HTTPException)(_refused)
    app.exception_handler(RequestValidationError)(_not_valid)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    return app


def _unavailable(request: Request, error: Exception) -> Response:
    """Error response for a data root that cannot be read now: HTML for a browser, JSON for a program."""
    if _from_browser(request):
        return pages.missing(request.app.state.source, "ledger to read", str(error), 503)
    return application.unavailable(request, error)


async def _not_valid(request: Request, error: RequestValidationError) -> Response:
    """Error response for a request with a value that cannot be: HTML for a browser, JSON for a program."""
    if not _from_browser(request):
        return await request_validation_exception_handler(request, error)
    first = error.errors()[0]
    return pages.missing(request.app.state.source, "such page", f"{first['loc'][-1]}: {first['msg']}", 422)


async def _refused(request: Request, error: HTTPException) -> Response:
    """Error response for a path that leads nowhere: HTML for a browser, JSON for a program."""
    if error.status_code == HTTPStatus.NOT_FOUND and _from_browser(request):
        return pages.missing(request.app.state.source, "such page", error.detail)
    return await http_exception_handler(request, error)


def _from_browser(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
