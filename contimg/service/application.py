"""The HTTP application: its routes behind its guards, for one data root."""

from __future__ import annotations

import logging
import sqlite3

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute

from contimg import __version__
from contimg.core.errors import ContimgError
from contimg.service import admin, alert_history, alertmanager, metrics, probes
from contimg.service.security import Guard
from contimg.service.source import DataSource

log = logging.getLogger(__name__)


def create(source: DataSource) -> FastAPI:
    """HTTP application of a data root."""
    app = FastAPI(
        title="contimg",
        version=__version__,
        description="Lights-out continuum imaging: metrics, probes, alerts, dashboard.",
        docs_url=None,  # Swagger's pages load scripts from other hosts
        redoc_url=None,
        responses={
            429: {"description": "too many requests from one address"},
            503: {"description": "ledger or files that cannot be read now"},
        },
    )
    app.state.source = source
    app.add_middleware(Guard)
    for module in (admin, alert_history, alertmanager, metrics, probes):
        include(app, module.router)
    app.add_exception_handler(ContimgError, unavailable)
    app.add_exception_handler(sqlite3.Error, unavailable)
    app.add_exception_handler(OSError, unavailable)
    return app


def include(app: FastAPI, router: APIRouter) -> None:
    """Include a router, its operations named in the OpenAPI document by the first line of their description."""
    for route in router.routes:
        if isinstance(route, APIRoute):
            route.summary = route.description.splitlines()[0].removesuffix(".")
    app.include_router(router)


def unavailable(_: Request, error: Exception) -> JSONResponse:
    """Error response for a data root that cannot be read now, with the reason."""
    log.warning("%s", error)
    return JSONResponse({"detail": str(error)}, 503)
