"""Times of a mosaic window: when it may close, and when it is combined with what there is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contimg.core.paths import window_end
from contimg.core.sections import Ingest, Runner


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


def window_times(window: str, ingest: Ingest, runner: Runner, since: float = 0.0) -> WindowTimes:
    """Moments of a window; `since` is when the first image came that its mosaic does not have (Unix, s)."""
    end = window_end(window).timestamp()
    return WindowTimes(
        closes=end + ingest.complete_within_minutes * 60,
        deadline=max(end, since) + runner.mosaic_deadline_minutes * 60,
    )


def window_waits(window: str, unended: int, now: datetime, ingest: Ingest, runner: Runner) -> str:
    """Why a window is not combined yet, by the number of its groups that have not ended; empty if it is due."""
    times, moment = window_times(window, ingest, runner), now.timestamp()
    if moment < times.closes:
        patience = timedelta(minutes=ingest.complete_within_minutes)
        return f"its time is not over until {window_end(window):%Y-%m-%dT%H:%M} UTC and {patience} after"
    if unended and moment < times.deadline:
        return f"{unended} of its groups have not ended"
    return ""
