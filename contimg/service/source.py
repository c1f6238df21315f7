"""What the service reads: one data root with its ledger and settings, and short-lived copies of costly readings."""

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
"""A reading that gave nothing is made again after this time (s)."""


class DataSource:
    """A data root as the service sees it; threads share one.

    Parameters
    ----------
    load_settings
        Reads the settings; while they are bad, the last good ones are in force.
    clock
        Unix time (s).
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
            If they are bad.
        """
        return self._load()

    @contextlib.contextmanager
    def ledger(self, *, write: bool = False) -> Iterator[Ledger]:
        """Ledger for one request.

        Raises
        ------
        LedgerError
            If there is none that can be read.
        """
        with contextlib.closing(open_ledger(self.root.ledger, read_only=not write)) as ledger:
            yield ledger

    def shared(self, name: str, make: Callable[[], Any], fresh_s: float = _FRESH_S) -> Any:
        """Result of a costly reading, made once for all who ask within `fresh_s` seconds."""
        with self._locks.setdefault(name, threading.Lock()):
            made, value = self._kept.get(name, (float("-inf"), None))
            if time.monotonic() - made > fresh_s:
                value = make()
                self._kept[name] = (time.monotonic(), value)
            return value

    def behind(self, name: str, make: Callable[[], Any], every_s: float) -> Any:
        """Result of a reading that takes long, as it was last made; None before the first. It is made in a thread."""
        made, value = self._kept.get(name, (float("-inf"), None))
        lock = self._locks.setdefault(name, threading.Lock())
        due_s = every_s if value is not None else min(every_s, _AGAIN_S)
        if time.monotonic() - made > due_s and lock.acquire(blocking=False):
            threading.Thread(target=self._make, args=(name, make, lock), daemon=True).start()
        return value

    def _make(self, name: str, make: Callable[[], Any], lock: threading.Lock) -> None:
        value = None
        try:
            value = make()
        except Exception:  # a page lacks a part; everything else goes on
            log.exception("%s could not be read", name)
        finally:
            self._kept[name] = (time.monotonic(), value)
            lock.release()

    def forget(self) -> None:
        """Let what was read be read again: something was changed."""
        self._kept.clear()


def source_of(request: Request) -> DataSource:
    """Data source of the application that a request came to."""
    source: DataSource = request.app.state.source
    return source


Source = Annotated[DataSource, Depends(source_of)]
