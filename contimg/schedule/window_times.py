"""Times of a mosaic window: when it may close, and when it is combined with what there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contimg.core.config import Settings
from contimg.core.paths import window_end


@dataclass(frozen=True)
class WindowTimes:
    """Moments of a window (Unix, s).

    Attributes
    ----------
    closes
        At the earliest: the last of its groups is known by then.
    deadline
        Whatever has not ended, it is combined then.
    """

    closes: float
    deadline: float


def window_times(window: str, settings: Settings, since: float = 0.0) -> WindowTimes:
    """Moments of a window; `since` is when the first image came that its mosaic does not have (Unix, s)."""
    end = window_end(window).timestamp()
    return WindowTimes(
        closes=end + settings.ingest.complete_within_minutes * 60,
        deadline=max(end, since) + settings.runner.mosaic_deadline_minutes * 60,
    )


def window_waits(window: str, unended: int, now: datetime, settings: Settings) -> str:
    """Why a window is not combined yet, by the number of its groups that have not ended; empty if it is due."""
    times, moment = window_times(window, settings), now.timestamp()
    if moment < times.closes:
        return f"its time is not over until {window_end(window):%Y-%m-%dT%H:%M} UTC and {_patience(settings)} after"
    if unended and moment < times.deadline:
        return f"{unended} of its groups have not ended"
    return ""


def _patience(settings: Settings) -> timedelta:
    return timedelta(minutes=settings.ingest.complete_within_minutes)
