"""Data source of the service: one data root with ledger and settings, and a short-lived cache of costly readings."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Annotated, Any

from fastapi import Depends, Request

from contimg.core.config import Settings
from contimg.core.errors import ConfigError
from contimg.core.paths import DataRoot
from contimg.ledger.ledger import Ledger, open_ledger

log = logging.getLogger(__name__)

_SETTINGS_S = 5.0
_FRESH_S = 1.0
_AGAIN_S = 60.0
"""Time (s) after which a reading without a result is repeated."""


class DataSource:
    """Data root as the service reads it, shared by its threads.

    Parameters
    ----------
    load_settings
        Function that reads the settings; while they are invalid, the last valid settings are in force.
    clock
        Function that returns the time (Unix, s).
    """

    def __init__(self, load_settings: Callable[[], Settings], clock: Callable[[], float] = time.time) -> None:
        self._load = load_settings
        self._settings = load_settings()
        self._read = time.monotonic()
        self.root = DataRoot(self._settings.data_root)
        self.now = clock
        self.started = clock()
        self._locks: dict[str, threading.Lock] = {}
        self._kept: dict[str, tuple[float, Any]] = {}
        self._slow: dict[str, tuple[float, Any]] = {}

    @property
    def settings(self) -> Settings:
        """Settings, read again every few seconds."""
        if time.monotonic() - self._read > _SETTINGS_S:
            self._read = time.monotonic()
            try:
                settings = self._load()
                if settings.data_root == self.root.root:
                    self._settings = settings
            except ConfigError as error:
                log.error("the settings were not changed: %s", error)
        return self._settings

    def load(self) -> Settings:
        """Read the settings now.

        Raises
        ------
        ConfigError
            If the settings are invalid.
        """
        return self._load()

    @contextlib.contextmanager
    def ledger(self, *, write: bool = False) -> Iterator[Ledger]:
        """Ledger for one request.

        Raises
        ------
        LedgerError
            If there is no readable ledger.
        """
        with contextlib.closing(open_ledger(self.root.ledger, read_only=not write)) as ledger:
            yield ledger

    def shared(self, name: str, make: Callable[[], Any], fresh_s: float = _FRESH_S) -> Any:
        """Result of a costly reading, shared by all requests within `fresh_s` seconds."""
        with self._locks.setdefault(name, threading.Lock()):
            made, value = self._kept.get(name, (float("-inf"), None))
            if time.monotonic() - made > fresh_s:
                value = make()
                self._kept[name] = (time.monotonic(), value)
            return value

    def in_background(self, name: str, make: Callable[[], Any], every_s: float, *, at_once: bool = False) -> Any:
        """Last result of a slow reading, repeated in a background thread; None before the first and after a failure.

        Parameters
        ----------
        at_once
            Make the first reading now, while the caller waits.
        """
        lock = self._locks.setdefault(name, threading.Lock())
        if at_once and name not in self._slow:
            with lock:
                if name not in self._slow:
                    self._make(name, make)
        made, value = self._slow.get(name, (float("-inf"), None))
        due_s = every_s if value is not None else min(every_s, _AGAIN_S)
        if time.monotonic() - made > due_s and lock.acquire(blocking=False):
            threading.Thread(target=self._make_behind, args=(name, make, lock), daemon=True).start()
        return value

    def _make(self, name: str, make: Callable[[], Any]) -> None:
        value = None
        try:
            value = make()
        except Exception:  # the page lacks one part; all other parts are served
            log.exception("%s could not be read", name)
        self._slow[name] = (time.monotonic(), value)

    def _make_behind(self, name: str, make: Callable[[], Any], lock: threading.Lock) -> None:
        try:
            self._make(name, make)
        finally:
            lock.release()

    def forget(self) -> None:
        """Drop the shared readings after a change; slow readings keep their interval."""
        self._kept.clear()


def source_of(request: Request) -> DataSource:
    """Data source of the application that received a request."""
    source: DataSource = request.app.state.source
    return source


Source = Annotated[DataSource, Depends(source_of)]
