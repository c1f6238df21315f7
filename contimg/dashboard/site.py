"""The whole site: the service's application with the dashboard's pages."""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from contimg.dashboard import pages
from contimg.service import application
from contimg.service.source import DataSource


def create(source: DataSource) -> FastAPI:
    """Application over a data root."""
    app = application.create(source)
    app.include_router(pages.router)
    app.mount("/static", StaticFiles(directory=pages.STATIC), name="static")
    return app
