"""Web site: the service's application with the dashboard's pages."""

from __future__ import annotations

import sqlite3

from fastapi import FastAPI, Request, Response
from fastapi.staticfiles import StaticFiles

from contimg.core.errors import ContimgError
from contimg.dashboard import pages
from contimg.service import application
from contimg.service.source import DataSource


def create(source: DataSource) -> FastAPI:
    """Application of a data root with all pages."""
    app = application.create(source)
    app.include_router(pages.router)
    for kind in (ContimgError, sqlite3.Error, OSError):
        app.add_exception_handler(kind, _unavailable)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    return app


def _unavailable(request: Request, error: Exception) -> Response:
    """Error response for a data root that cannot be read now: HTML for a browser, JSON for a program."""
    if "text/html" in request.headers.get("accept", ""):
        return pages.unavailable(request.app.state.source, str(error))
    return application.unavailable(request, error)
