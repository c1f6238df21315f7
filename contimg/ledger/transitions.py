"""Events carried out: a row is read, advanced and written, and what follows from it, all in one transaction.

What leaves the ledger (files to and from quarantine, new sets, messages) goes into its outbox and is done after the
transaction (`contimg.execute.outbox`), again after a crash.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import assert_never

from contimg.core.errors import ImpossibleTransitionError
from contimg.core.sections import Retry
from contimg.core.stages import STAGES, Per
from contimg.ledger import group_life, window_life
from contimg.ledger.events import (
    ClockStepped,
    DiscardMeasurementSet,
    DiskFreed,
    GroupEvent,
    ImageMade,
    Instruction,
    LaneRecovered,
    MarkSummaryStale,
    PutInQuarantine,
    RegisterSet,
    Release,
    SettingsChanged,
    Tell,
    TouchWindow,
    WindowEvent,
)
from contimg.ledger.group_life import Facts
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import SUMMARY_STALE
from contimg.ledger.rows import GroupRow, WindowRow

log = logging.getLogger(__name__)

_STORY = 20
"""Attempts that the story of an impossible transition tells."""


class Transitions:
    """Carries events out on the rows of a ledger.

    Parameters
    ----------
    replay
        Whether the events are of the past, made from files: nobody is told again, no set wakes anybody.
    """

    def __init__(self, ledger: Ledger, retry: Retry, *, replay: bool = False) -> None:
        self._ledger = ledger
        self._replay = replay
        self.retry = retry

    def group(self, name: str, event: GroupEvent, now: float, since: int | None = None) -> GroupRow | None:
        """Carry out an event in a group's life; returns its row after it.

        Parameters
        ----------
        since
            Id of the attempt after which failures count for what begins now; None: the newest.

        Raises
        ------
        ImpossibleTransitionError
            If it cannot happen; the message tells the group's story.
        """
        with self._ledger.transaction():
            before = self._ledger.group(name)
            facts = self._facts(name, before.counted_from if before else 0, now, since, window=False)
            try:
                after, instructions = group_life.advance(name, before, event, facts)
            except ImpossibleTransitionError as error:
                raise self._told(name, before, error) from None
            if after is None:
                self._ledger.drop_group(name)
            elif after != before:
                self._ledger.put_group(after)
            self._carry_out(name, instructions, now)
        self._say(name, before, after)
        return after

    def window(self, name: str, event: WindowEvent, now: float, since: int | None = None) -> WindowRow:
        """Carry out an event in a window's life; returns its row after it.

        Raises
        ------
        ImpossibleTransitionError
            If it cannot happen; the message tells the window's story.
        """
        with self._ledger.transaction():
            before = self._ledger.window(name)
            facts = self._facts(name, before.counted_from if before else 0, now, since, window=True)
            try:
                after, instructions = window_life.advance(name, before, event, facts)
            except ImpossibleTransitionError as error:
                raise self._told(name, before, error) from None
            if after != before:
                self._ledger.put_window(after)
            self._carry_out(name, instructions, now)
        self._say(name, before, after)
        return after

    def everywhere(self, event: DiskFreed | SettingsChanged, now: float) -> None:
        """Carry out an event that concerns all that waits or was given up."""
        with self._ledger.transaction():
            for row in (*self._ledger.open_groups(), *self._ledger.quarantined_groups()):
                self.group(row.name, event, now)
            for window in (*self._ledger.due_windows(), *self._ledger.failed_windows()):
                self.window(window.name, event, now)

    def lane_recovered(self, lane: str, units: Iterable[str], now: float) -> None:
        """Let units try again that had failed in a row in a lane that works again."""
        with self._ledger.transaction():
            for name in units:
                if STAGES[lane].per is Per.WINDOW:
                    self.window(name, LaneRecovered(lane), now)
                elif self._ledger.group(name):  # its files may be gone by now
                    self.group(name, LaneRecovered(lane), now)

    def clock_stepped(self, seconds: float, now: float) -> None:
        """Move all that is due in the future along with a wall clock that was put forward (s; negative: back)."""
        with self._ledger.transaction():
            for row in self._ledger.open_groups():
                self.group(row.name, ClockStepped(seconds), now)
            for window in self._ledger.due_windows():
                self.window(window.name, ClockStepped(seconds), now)
            self._ledger.shift_times(seconds)

    def _facts(self, name: str, counted_from: int, now: float, since: int | None, *, window: bool) -> Facts:
        return Facts(
            now,
            self.retry,
            self._ledger.last_attempt_id() if since is None else since,
            self._ledger.failures(name, counted_from, window=window),
        )

    def _carry_out(self, name: str, instructions: Iterable[Instruction], now: float) -> None:
        for instruction in instructions:
            match instruction:
                case TouchWindow():
                    self.window(instruction.window, ImageMade(), now)
                case MarkSummaryStale():
                    self._ledger.set_note(SUMMARY_STALE, 1)
                case PutInQuarantine() | Release():
                    self._ledger.drop_outbox_of(name, PutInQuarantine.__name__, Release.__name__)
                    self._ledger.add_to_outbox(type(instruction).__name__, name, asdict(instruction))
                case DiscardMeasurementSet() | RegisterSet() | Tell():
                    if not self._replay:
                        self._ledger.add_to_outbox(type(instruction).__name__, name, asdict(instruction))
                case _:
                    assert_never(instruction)

    def _told(
        self, name: str, row: GroupRow | WindowRow | None, error: ImpossibleTransitionError
    ) -> ImpossibleTransitionError:
        tried = "; ".join(
            f"{attempt.rule} {attempt.number} {attempt.outcome} {attempt.error_class}".strip()
            for attempt in reversed(self._ledger.attempts_of(name, _STORY))
        )
        return ImpossibleTransitionError(
            f"{error}; its row: {row}; its attempts: {tried or 'none'}; it stays as it is"
        )

    def _say(self, name: str, before: GroupRow | WindowRow | None, after: GroupRow | WindowRow | None) -> None:
        """A line in the log for each change of state or wait."""
        if self._replay or after is None or (before and _told_of(before) == _told_of(after)):
            return
        say: Callable[..., None] = log.warning if after.reason else log.info
        stage = f" {after.stage}" if isinstance(after, GroupRow) else " mosaic"
        say("%s:%s %s%s", name, stage, after.state, f": {after.reason}" if after.reason else "")


def _told_of(row: GroupRow | WindowRow) -> tuple[object, ...]:
    return (row.state, getattr(row, "stage", ""), row.reason)
