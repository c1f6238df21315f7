"""Intake: groups as the scan found them → rows of the ledger, due or waiting."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from contimg.core.config import Settings
from contimg.core.errors import ContimgError, ErrorClass, QuarantineError
from contimg.core.paths import DataRoot, RawName, group_id
from contimg.execute.outcomes import Event, Settler
from contimg.ingest import quarantine
from contimg.ingest.groups import Group, examined
from contimg.ledger.group_rows import activate, new_group
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import GroupRow

log = logging.getLogger(__name__)

_STRAY_WAITS = 2
"""A file that no group takes is quarantined when it has waited this many times `complete_within_minutes`."""


def patience_s(settings: Settings) -> float:
    """How long (s) a file may be in no group: it may be on its way, unreadable for now, or wait to be judged."""
    return _STRAY_WAITS * settings.ingest.complete_within_minutes * 60


class Intake:
    """Enters what the scan found into the ledger."""

    def __init__(self, root: DataRoot, ledger: Ledger, settler: Settler) -> None:
        self._root = root
        self._ledger = ledger
        self._settler = settler
        self._postponed: dict[str, Group] = {}
        """Groups that could not be entered; tried again in the next pass."""

    @property
    def _settings(self) -> Settings:
        return self._settler.settings

    def admit(self, groups: Iterable[Group], now: float) -> list[Event]:
        """Enter groups that are new or changed, and those that could not be entered before."""
        events: list[Event] = []
        todo = self._postponed | {group.name: group for group in groups}
        self._postponed = {}
        for group in todo.values():
            try:
                with self._ledger.transaction():
                    events += self._admit(group, now)
            except (OSError, ContimgError) as error:
                log.error("%s: cannot be taken up now: %s", group.name, error)
                self._postponed[group.name] = group
        return events

    def _admit(self, group: Group, now: float) -> list[Event]:
        known = self._ledger.group(group.name)
        if known and known.state == "quarantined":
            return self._out_of_quarantine(group, known)
        modified = self._root.manifest(group.name).stat().st_mtime_ns
        if known and known.state in ("due", "done") and known.manifest_ns == modified:
            return []
        if known and known.state == "done":
            log.warning("%s: more of it arrived after it had ended; it is processed again", group.name)
        row = new_group(
            group.name,
            self._settings,
            state="collecting" if group.state == "collecting" else "due",
            reason=group.reason or "" if group.state == "collecting" else "",
            arrived=max((subband.mtime_ns or 0 for subband in group.subbands.values()), default=0) / 1e9,
            raw_bytes=group.raw_bytes,
            manifest_ns=modified,
            counted_from=self._ledger.last_attempt_id(),
            age_hours=known.age_hours if known else None,
        )
        if known != row:
            self._ledger.put_group(row)
        if group.state == "unusable":
            return self._settler.quarantine(
                group.name, "groups", group.reason or "unusable", ErrorClass.CORRUPT_INPUT, now
            )
        return []

    def _out_of_quarantine(self, group: Group, known: GroupRow) -> list[Event]:
        """A quarantined group was released, or more of it arrived, which releases it."""
        if (self._root.quarantine(group.name) / quarantine.REASON).exists():
            try:
                quarantine.release(self._root, group.name)
            except QuarantineError as error:
                log.warning("%s", error)
                return []
            log.info("%s: more of it arrived; it is released from quarantine", group.name)
        self._ledger.update_group(known.name, manifest_ns=self._root.manifest(group.name).stat().st_mtime_ns)
        activate(self._ledger, known.name, "detect")
        return []

    def strays(self, unplaced: Mapping[str, float], now: float) -> list[Event]:
        """Quarantine files that have been in no group for long: there is nothing left that they could join."""
        patience = patience_s(self._settings)
        events = []
        for name, since in unplaced.items():
            path = self._root.incoming / name
            try:
                # A time of modification in the future says nothing of when it was written.
                if now - since < patience or 0 <= now - path.stat().st_mtime < patience:
                    continue
            except FileNotFoundError:
                continue
            group, why = self._home(name)
            reason = f"{name}: {why}"
            quarantine.put(
                self._root,
                group,
                [path],
                reason=reason,
                error_class=ErrorClass.CORRUPT_INPUT,
                stage="groups",
                stray=True,
            )
            events.append(Event("quarantined", group, f"a file was quarantined under {group}: {reason}"))
        return events

    def _home(self, name: str) -> tuple[str, str]:
        """Group under whose name a stray file is kept, and what is the matter with it."""
        try:
            frame, _, wrong = examined(self._root.incoming / name)
        except OSError as error:
            frame, wrong = None, f"cannot be read ({error})"
        if frame:
            return frame.group, "arrived after its group was processed and its raw files were archived"
        return group_id(RawName.parse(name).opened), str(wrong)
