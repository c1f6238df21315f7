"""Times of a mosaic window: earliest closing, and deadline for a mosaic of the images at hand."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from contimg.core.paths import window_end
from contimg.core.sections import Ingest, Runner


@dataclass(frozen=True)
class WindowTimes:
    """Times of a window (Unix, s).

    Attributes
    ----------
    closes
        Earliest closing, by which the last of its groups is known.
    deadline
        Time at which the images at hand are combined, even if groups have not ended.
    """

    closes: float
    deadline: float


def window_times(window: str, ingest: Ingest, runner: Runner, since: float = 0.0) -> WindowTimes:
    """Times of a window; `since` is the arrival (Unix, s) of the first image missing in its mosaic."""
    end = window_end(window).timestamp()
    return WindowTimes(
        closes=end + ingest.complete_within_minutes * 60,
        deadline=max(end, since) + runner.mosaic_deadline_minutes * 60,
    )


def window_waits(window: str, unended: int, now: datetime, ingest: Ingest, runner: Runner) -> str:
    """Reason why a window is not combined yet, from its number of groups that have not ended; empty if due."""
    times, moment = window_times(window, ingest, runner), now.timestamp()
    if moment < times.closes:
        patience = timedelta(minutes=ingest.complete_within_minutes)
        return f"its time is not over until {window_end(window):%Y-%m-%dT%H:%M} UTC and {patience} after"
    if unended and moment < times.deadline:
        return f"{unended} of its groups have not ended"
    return ""
