"""Retention: old products archived and removed from the disks, by a plan made from facts, safe against interruption.

Deleting is the most dangerous operation of this software. A unit goes in this order: checksum, archive, verify the
copy, record, check again for changes and needs, note the removal, rename aside, compare a last time, remove. After an
interruption the next run finishes the noted removals and plans the rest anew. Raw data that are not archived, sets,
quarantine, and files outside the data root are never candidates.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from contimg.core.errors import ChangedError, ConfigError, ContimgError, StoreError
from contimg.core.paths import DataRoot
from contimg.core.sections import Archive, Retention
from contimg.storage import last_run, removal
from contimg.storage.archive import ArchiveUnit, archive_store, archive_unit, sweep
from contimg.storage.inventory import listing, unchanged
from contimg.storage.lock import check_mounted
from contimg.storage.retention_candidates import (
    DiskState,
    RetentionCandidate,
    RetentionSettings,
    gather_candidates,
    reason_to_stay,
)

_GB = 1e9
_ROOM = 4 * 2**20
"""Disk space (bytes) that retention keeps in reserve for its own records."""
_SHOWN = 100
"""Largest number of kept products in the printed plan."""


@dataclass(frozen=True)
class Removal:
    """Planned removal of a unit, with its reason."""

    unit: ArchiveUnit
    size: int
    why: str


@dataclass(frozen=True)
class RetentionPlan:
    """Removals in order, and old products that stay, with the reason."""

    removals: tuple[Removal, ...]
    kept: tuple[tuple[ArchiveUnit, str], ...]
    note: str = ""
    """Reason that keeps all products of a kind."""

    @property
    def size(self) -> int:
        """Disk space freed on the data root's disk (bytes)."""
        return sum(planned.size for planned in self.removals)


def check(root: DataRoot, settings: Retention, archive: Archive) -> None:
    """Refuse settings that would remove all old products at once. Without an archive only logs are removed.

    Raises
    ------
    ConfigError
        If the free space to keep is more than the disk holds.
    """
    if archive.destination is None:
        return
    try:
        total = shutil.disk_usage(root.root).total
    except OSError as error:
        raise ConfigError(f"data_root: {root.root} cannot be read ({error.strerror}); is it mounted?") from None
    if settings.min_free_gb * _GB >= total:
        raise ConfigError(
            f"retention.min_free_gb: {settings.min_free_gb:g} GB cannot be kept free: "
            f"the disk of {root.root} holds {total / _GB:.0f} GB; ask for less"
        )


def plan(facts: DiskState, settings: Retention, archive: Archive) -> RetentionPlan:
    """Decide removals: logs and images by age; Measurement Sets, then raw groups, by age until space is free."""
    removals: list[Removal] = []
    kept: list[tuple[ArchiveUnit, str]] = []
    free = facts.free

    def take(aged: Iterable[RetentionCandidate], limit_days: float, mark: float | None = None) -> None:
        nonlocal free
        if mark is not None and free >= mark:
            return
        for candidate in aged:
            if candidate.needed:
                kept.append((candidate.unit, candidate.needed))
                continue
            age = (facts.now - candidate.made) / timedelta(days=1)
            why = f"{age:.1f} of {limit_days:g} days old"
            if mark is not None:
                why += f"; {free / _GB:.1f} of {mark / _GB:g} GB free"
            removals.append(Removal(candidate.unit, candidate.size, why))
            free += candidate.size
            if mark is not None and free >= mark:
                return

    take(facts.logs, settings.log_days)
    if archive.destination is None:
        return RetentionPlan(tuple(removals), tuple(kept), "without an archive (archive.destination) only logs go")
    take(facts.images, settings.image_days)
    take(facts.measurement_sets, settings.ms_days, settings.min_free_gb * _GB)
    if settings.raw_mark:
        take(facts.raw, settings.ms_days, settings.min_free_gb * settings.raw_mark * _GB)
    return RetentionPlan(tuple(removals), tuple(kept))


def plan_now(root: DataRoot, settings: RetentionSettings, now: datetime) -> RetentionPlan:
    """Read the state of the disks and plan.

    Raises
    ------
    ConfigError
        If the settings are unsafe, or the data root is missing.
    """
    check_mounted(root)
    check(root, settings.retention, settings.archive)
    return plan(gather_candidates(root, settings, now), settings.retention, settings.archive)


def described(plan: RetentionPlan) -> str:
    """Plan in words, the same for a dry run and a real run."""
    lines = [f"{len(plan.removals)} to go, {plan.size / _GB:.2f} GB"]
    lines += [
        f"  {planned.unit.kind:5} {planned.unit.group}  {planned.size / _GB:8.3f} GB  {planned.why}"
        for planned in plan.removals
    ]
    if plan.kept:
        lines.append(f"{len(plan.kept)} old enough, but needed")
        lines += [f"  {unit.kind:5} {unit.group}  {reason}" for unit, reason in plan.kept[:_SHOWN]]
    if plan.note:
        lines.append(plan.note)
    return "\n".join(lines)


def run(root: DataRoot, settings: RetentionSettings, now: datetime, say: Callable[[str], None]) -> int:
    """Retention run: finish interrupted removals, plan, print the plan, perform it, store the outcome for `status`.

    Returns
    -------
    int
        Number of failed removals.

    Raises
    ------
    ConfigError
        If the settings are unsafe, or the data root is missing.
    """
    check_mounted(root)
    with _room_to_work(root):
        return _run(root, settings, now, say)


@contextmanager
def _room_to_work(root: DataRoot) -> Iterator[None]:
    """Free a small reserve during the run, because a full disk has no room for records and notes."""
    path = root.state / "room"
    path.unlink(missing_ok=True)
    try:
        yield
    finally:
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, _ROOM)
        except OSError:  # the next run makes the reserve
            path.unlink(missing_ok=True)


def _run(root: DataRoot, settings: RetentionSettings, now: datetime, say: Callable[[str], None]) -> int:
    before = (last_outcome(root) or {}).get("last_success")
    complete = False
    decided = RetentionPlan((), ())
    removed: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    try:
        sweep(root)
        for what, failure in removal.finish(root):
            say(f"an interrupted removal, {what}: {failure or 'finished'}")
            if failure:
                failed.append({"what": what, "why": failure})
        decided = plan_now(root, settings, now)
        say(described(decided))
        for planned, failure in perform(decided, root, settings, now):
            what = f"{planned.unit.kind} {planned.unit.group}"
            say(f"stays: {failure}" if failure else f"removed: {what}")
            if failure:
                failed.append({"what": what, "why": failure})
            else:
                removed.append({"what": what, "why": planned.why, "size": planned.size})
        complete = not failed
    except Exception as error:
        failed.append({"what": "retention", "why": str(error)})
        raise
    finally:
        content = {
            "when": now.isoformat(timespec="seconds"),
            "last_success": now.isoformat(timespec="seconds") if complete else before,
            "removed": removed,
            "failed": failed,
            "kept": [{"what": f"{unit.kind} {unit.group}", "why": reason} for unit, reason in decided.kept[:_SHOWN]],
            "free": shutil.disk_usage(root.root).free,
        }
        last_run.write(root, "retention", content)
    return len(failed)


def last_outcome(root: DataRoot) -> dict[str, Any] | None:
    """Outcome of the last run: `when`, `last_success`, `removed`, `failed` with reasons, `kept`."""
    return last_run.read(root, "retention")


def perform(
    plan: RetentionPlan, root: DataRoot, settings: RetentionSettings, now: datetime
) -> Iterator[tuple[Removal, str | None]]:
    """Perform the plan; yields each removal with the reason for its failure, or None.

    If the archive fails, the rest of the plan is left for the next run.
    """
    for planned in plan.removals:
        try:
            _let_go(planned.unit, root, settings, now)
            yield planned, None
        except StoreError as error:
            yield planned, str(error)
            return
        except (ContimgError, OSError) as error:
            yield planned, str(error)


def _let_go(unit: ArchiveUnit, root: DataRoot, settings: RetentionSettings, now: datetime) -> None:
    record = None
    if unit.kind == "log":
        entries = listing(root.root, unit.paths)
    else:
        record, contents = archive_unit(archive_store(settings.archive), root, unit, now)
        entries = contents.entries
    if reason := reason_to_stay(root, settings, unit, now):
        raise ChangedError(f"{unit.kind} of {unit.group}: {reason}; it stays")
    if not unchanged(entries, listing(root.root, unit.paths)):
        raise ChangedError(f"{unit.kind} of {unit.group}: changed since it was archived; it stays")
    removal.remove(root, unit, entries, record, now)
