"""Log lines of runner, jobs and service: as text or JSON, each with the trace of the named group or window."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime

from contimg.core.paths import WINDOW_PATTERN
from contimg.core.sections import Logging
from contimg.core.trace import trace_id

_NAME = re.compile(rf"\b{WINDOW_PATTERN}\b")


class _Lines(logging.Formatter):
    """Formatter of text lines, with the trace of the process's own unit, or else of the unit in the message."""

    def __init__(self, unit: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._unit = unit

    def trace(self, record: logging.LogRecord) -> str:
        """Trace of a log record; empty without a group or window."""
        named = _NAME.search(record.getMessage())
        unit = self._unit or (named[0] if named else "")
        return trace_id(unit) if unit else ""

    def format(self, record: logging.LogRecord) -> str:
        """Log line, followed by the traceback if any."""
        trace = self.trace(record)
        return super().format(record) + (f" [trace {trace}]" if trace else "")


class _JsonLines(_Lines):
    def format(self, record: logging.LogRecord) -> str:
        """Log line as one JSON object."""
        content = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "trace_id": self.trace(record),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps({key: value for key, value in content.items() if value}, ensure_ascii=False)


def configure(settings: Logging, unit: str = "") -> None:
    """Write this process's log lines to standard error.

    Parameters
    ----------
    unit
        Group or window of the whole process; empty for none.
    """
    handler = logging.StreamHandler()
    handler.setFormatter((_JsonLines if settings.format == "json" else _Lines)(unit))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
