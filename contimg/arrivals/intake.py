"""Intake: groups as the scan found them → rows of the ledger, due or waiting."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from contimg.core.errors import Blame, ContimgError, ErrorClass, in_words
from contimg.core.paths import DataRoot, RawName, group_id, window_for
from contimg.core.sections import Ingest, Mosaic, Retry
from contimg.core.stages import STAGES
from contimg.ingest import quarantine
from contimg.ingest.groups import scan
from contimg.ingest.incoming import check_raw_file, has_raw_files
from contimg.ingest.manifest import Group, load
from contimg.ingest.placing import is_processed
from contimg.ledger.events import Arrived, FilesGone, JobFailed, PutInQuarantine, Tell
from contimg.ledger.group_life import COLLECTING, QUARANTINED, SCAN
from contimg.ledger.ledger import Ledger
from contimg.ledger.queries import LAST_ARRIVAL
from contimg.ledger.rows import GroupRow
from contimg.ledger.transitions import Transitions

log = logging.getLogger(__name__)

_STRAY_WAITS = 2
"""Wait before a file in no group is quarantined, in units of `ingest.complete_within_minutes`."""


@dataclass(frozen=True)
class IntakeSettings:
    """Settings of the intake: completeness of groups, mosaic windows, retries."""

    ingest: Ingest
    mosaic: Mosaic
    retry: Retry


def stray_wait_s(settings: Ingest) -> float:
    """Time (s) for which a file may stay in no group: on its way, unreadable for now, or waiting to be judged."""
    return _STRAY_WAITS * settings.complete_within_minutes * 60


def arrival(root: DataRoot, group: Group, manifest_ns: int, settings: Mosaic) -> Arrived:
    """Arrival event of a group that the scan found, with the values of its manifest."""
    return Arrived(
        group.state,
        group.reason or "",
        arrived=group.arrived,
        raw_bytes=group.raw_bytes,
        manifest_ns=manifest_ns,
        window=window_for(root, group.name, settings.window_minutes),
    )


class Intake:
    """Intake of a scan's groups into the ledger, each by itself."""

    def __init__(self, root: DataRoot, ledger: Ledger, settings: IntakeSettings) -> None:
        self._root = root
        self._ledger = ledger
        self.settings = settings
        self._postponed: dict[str, Group] = {}
        """Groups that could not be entered, tried again in the next pass."""

    def admit(self, groups: Iterable[Group], now: float) -> bool:
        """Enter new and changed groups, and the postponed ones; returns whether all were entered."""
        todo = self._postponed | {group.name: group for group in groups}
        self._postponed = {}
        for group in todo.values():
            try:
                self._admit(group, now)
            except (OSError, ValueError, ContimgError) as error:
                log.error(
                    "%s: cannot be taken up now (%s); tried again in the next pass", group.name, in_words(error)
                )
                self._postponed[group.name] = group
        return not self._postponed

    def _admit(self, group: Group, now: float) -> None:
        modified = self._root.manifest(group.name).stat().st_mtime_ns
        known = self._ledger.group(group.name)
        if known is None or known.manifest_ns != modified:
            self._ledger.set_note(LAST_ARRIVAL, now)
        if quarantine.is_quarantined(self._root, group.name):
            return  # the scan releases a group when more of its files arrive
        if self._ledger.in_outbox(group.name, PutInQuarantine.__name__):
            if known and known.manifest_ns == modified:
                return  # its files are on their way into quarantine
            self._ledger.drop_outbox_of(group.name, PutInQuarantine.__name__)
        if known and known.state == "done" and known.manifest_ns != modified:
            log.warning("%s: more of it arrived after it had ended; it is processed again", group.name)
        arrived = arrival(self._root, group, modified, self.settings.mosaic)
        Transitions(self._ledger, self.settings.retry).group(group.name, arrived, now)

    def released(self) -> list[str]:
        """Groups in quarantine by their rows but not by their files, because a person has released them."""
        return [
            row.name
            for row in self._ledger.quarantined_groups()
            if not (self._root.quarantine(row.name) / quarantine.REASON).exists()
            and not self._ledger.in_outbox(row.name, PutInQuarantine.__name__)
        ]

    def forget(self, names: Iterable[str], now: float) -> None:
        """Drop collecting or released groups whose manifest the scan removed, as their files belong to others."""
        for name in names:
            row = self._ledger.group(name)
            waits = row is not None and row.state in (COLLECTING, QUARANTINED)
            if waits and not self._root.manifest(name).exists():
                Transitions(self._ledger, self.settings.retry).group(name, FilesGone(), now)

    def mend_manifest(self, row: GroupRow, now: float) -> bool:
        """Make a due group's manifest anew from its files if it is lost or damaged; returns whether the row changed.

        Without files the group is given up at the first stage that needs the manifest: every call for it would fail
        as a whole, as if its lane were broken. Where no group has raw files it waits, as their disk may be away.

        Raises
        ------
        OSError
            If the manifest cannot be read now, or `incoming/` cannot be listed.
        """
        try:
            load(self._root.manifest(row.name))
            return False
        except (ValueError, FileNotFoundError) as error:
            found = scan(self._root, self.settings.ingest, datetime.fromtimestamp(now, UTC), [row.name])
            if found.groups:
                self.admit(found.groups, now)
                return True
            if not any("manifest" in STAGES[rule].needs for rule in STAGES[row.stage].rules):
                return False
            reason = f"{in_words(error)}, and none of its raw files is there to make it anew"
            gone = JobFailed(row.stage, ErrorClass.CORRUPT_INPUT, Blame.GROUP, reason, counts=True)
            if not has_raw_files(self._root.incoming):
                reason += ", nor is any other: perhaps their disk is not mounted"
                gone = JobFailed(row.stage, ErrorClass.IO_ERROR, Blame.MACHINE, reason, counts=True)
            Transitions(self._ledger, self.settings.retry).group(row.name, gone, now)
            return True

    def strays(self, unplaced: Mapping[str, float], now: float) -> None:
        """Quarantine files that have long been in no group and can no longer join one."""
        for name, since in unplaced.items():
            path = self._root.incoming / name
            try:
                self._stray(path, since, now)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, ContimgError) as error:
                log.error("%s: cannot be quarantined now (%s); tried again in the next pass", path, in_words(error))

    def _stray(self, path: Path, since: float, now: float) -> None:
        home = self._home(path.name) if now - since >= stray_wait_s(self.settings.ingest) else None
        if home is None:
            return
        group, why = home
        reason = f"{path.name}: {why}"
        facts = {"reason": reason, "error_class": ErrorClass.CORRUPT_INPUT, "stage": SCAN}
        quarantine.put(self._root, group, [path], **facts, stray=True)
        told = Tell("quarantined", group, f"a file was quarantined under {group}: {reason}; send it again")
        self._ledger.add_to_outbox(Tell.__name__, group, asdict(told))

    def _home(self, name: str) -> tuple[str, str] | None:
        """Group under whose name a stray file is quarantined, with the reason; None for a file that stays in place.

        Unreadable files stay for now, as do good files that their group may still take.
        """
        try:
            frame, _, wrong = check_raw_file(self._root.incoming / name)
        except OSError:
            return None
        if wrong:
            return group_id(RawName.parse(name).opened), wrong.removeprefix(f"{name}: ")
        if frame and is_processed(self._root, frame.group):
            return frame.group, f"arrived after {frame.group} had been processed, whose other raw files are gone"
        return None
