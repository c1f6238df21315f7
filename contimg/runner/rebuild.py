"""The ledger, built again from the files: the same groups, states and sets as before."""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.errors import DiskFullError, ErrorClass, JobDiedError
from contimg.core.paths import DataRoot, group_of
from contimg.core.trace import trace_id
from contimg.execute import attempts
from contimg.execute.retry import Again, decide
from contimg.execute.set_registration import register
from contimg.ingest import quarantine
from contimg.ingest.groups import Group, load
from contimg.job.attempt_record import AttemptRecord, records
from contimg.ledger.group_rows import new_group
from contimg.ledger.ledger import Ledger, create_ledger, remove_ledger, set_aside, without_room
from contimg.ledger.rows import AttemptRow, GroupRow, WindowRow

log = logging.getLogger(__name__)


def build(root: DataRoot, settings: Settings, keep: Callable[[], None]) -> tuple[dict[str, int], Path | None]:
    """Build a ledger from the files. It appears whole or not at all; one that is there is set aside.

    Returns
    -------
    tuple
        What `rebuild` says, and where the old ledger is now (None where there was none).

    Raises
    ------
    DiskFullError
        If there is no room for it.
    """
    new = root.ledger.with_name(f"{root.ledger.name}.new")
    remove_ledger(new)
    try:
        with contextlib.closing(create_ledger(new)) as empty:
            counts = rebuild(root, empty, settings, keep)
            empty.close_wal()
        aside = set_aside(root.ledger)
        new.rename(root.ledger)
    except sqlite3.Error as error:
        if without_room(root.ledger.parent, error):
            raise DiskFullError(f"{root.ledger}: {error}, for there is no room; it is built when there is") from error
        raise
    finally:
        remove_ledger(new)
    return counts, aside


def rebuild(root: DataRoot, ledger: Ledger, settings: Settings, keep: Callable[[], None]) -> dict[str, int]:
    """Fill an empty ledger from the files of a data root. Attempts that run are left for those who wait for them.

    Parameters
    ----------
    keep
        Called again and again, so that the lease is kept however long it takes.

    Returns
    -------
    dict
        How many groups, windows, sets and attempts there are now.
    """
    with ledger.transaction():
        for path in sorted((root.root / "calibration").glob("*/*/set.json")):
            keep()
            register(root, ledger, path, settings)
        for unit in _tried(root):
            keep()
            rows = [_closed(record, root) for record in records(root, unit) if not record.lives]
            ledger.add_attempts(sorted(rows, key=lambda row: (row.finished, row.started, row.outcome == "failed")))
        quarantined = {one.group: one for one in quarantine.entries(root)}
        for manifest in sorted(root.groups.glob("*.json")):
            keep()
            try:
                group = load(manifest)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("%s: cannot be read as a manifest (%r); the scan makes it anew", manifest, error)
                continue
            ledger.put_group(_group(root, ledger, settings, group, quarantined.get(group.name)))
        for window in _windows(root, ledger):
            keep()
            ledger.put_window(window)
    return ledger.sizes()


def _tried(root: DataRoot) -> Iterator[str]:
    for folder in sorted((root.root / "logs").glob("*/*")):
        try:
            yield group_of(folder)
        except ValueError:
            continue


def _closed(record: AttemptRecord, root: DataRoot) -> AttemptRow:
    if record.running:
        record = attempts.close(record, JobDiedError("it ran when its runner died; it is due again"))
    return attempts.row(record, root)


def _group(
    root: DataRoot, ledger: Ledger, settings: Settings, group: Group, entry: quarantine.Entry | None
) -> GroupRow:
    """A group's row, from its files."""
    manifest = root.manifest(group.name)
    row = new_group(
        group.name,
        settings,
        arrived=max((subband.mtime_ns or 0 for subband in group.subbands.values()), default=0) / 1e9,
        raw_bytes=group.raw_bytes,
        manifest_ns=manifest.stat().st_mtime_ns,
        calibrator=_calibrator(root, group.name),
    )
    if entry and not entry.stray:
        return replace(
            row,
            state="quarantined",
            stage=entry.content["stage"],
            reason=entry.reason,
            error_class=entry.error_class,
            ended=(root.quarantine(group.name) / quarantine.REASON).stat().st_mtime,
        )
    if group.state == "collecting":
        return replace(row, state="collecting", reason=group.reason or "")
    if group.state == "unusable":
        return replace(row, manifest_ns=0)  # so that the next scan quarantines it
    stage = next_stage(root, group.name, row.manifest_ns)
    if not stage:
        return replace(row, state="done", stage="", **_end(root, group.name))
    return _with_history(ledger, settings, replace(row, stage=stage, **_age(root, group.name)))


def next_stage(root: DataRoot, name: str, manifest_ns: int) -> str:
    """What a group's files say is next; empty if it has ended."""
    image, ms, chosen = root.image(name, "json"), root.ms_sidecar(name), root.set(name)
    if _modified(image) >= manifest_ns and _modified(image) >= _modified(ms):
        return ""
    if _modified(root.calibrator(name)) < manifest_ns:
        return "detect"
    if _modified(ms) < manifest_ns or not root.ms(name).exists():
        return "convert"
    if _calibrator(root, name) and _modified(chosen) < _modified(ms):
        return "solve"
    return "image"


def _with_history(ledger: Ledger, settings: Settings, row: GroupRow) -> GroupRow:
    """The row with its latest failure and when it is due again, as its attempt records tell."""
    last = next((one for one in ledger.attempts_of(row.name, 20) if one.rule != "mosaic"), None)
    if last is None or last.outcome == "ok":
        return replace(row, counted_from=ledger.last_attempt_id())
    succeeded = ledger.last_success_id(row.name)
    failures = ledger.failures(row.name, succeeded).get(last.error_class, 1)
    decision = decide(settings.retry, ErrorClass(last.error_class), failures)
    due = last.finished + decision.delay_s if isinstance(decision, Again) else 0.0
    return replace(row, due=due, reason=last.message, error_class=last.error_class, counted_from=succeeded)


def _windows(root: DataRoot, ledger: Ledger) -> Iterator[WindowRow]:
    """Windows that have an image: done if their mosaic is newer than every image of theirs."""
    newest: dict[str, float] = {}
    for row in ledger.imaged_groups():
        made = _modified(root.image(row.name, "json"))
        newest[row.window] = max(newest.get(row.window, 0), made)
    for name, images in sorted(newest.items()):
        mosaic = _modified(root.mosaic(name, "json"))
        done = mosaic >= images
        yield WindowRow(
            name,
            "done" if done else "due",
            0.0,
            images / 1e9,
            "",
            "",
            0,
            mosaic / 1e9 if done else None,
            trace_id(name),
        )


def _calibrator(root: DataRoot, name: str) -> str:
    found = _content(root.calibrator(name)).get("calibrator")
    return str(found["name"]) if found else ""


def _end(root: DataRoot, name: str) -> dict[str, Any]:
    return {"ended": _modified(root.image(name, "json")) / 1e9, **_age(root, name)}


def _age(root: DataRoot, name: str) -> dict[str, Any]:
    return {"age_hours": _content(root.image(name, "json")).get("age_hours")}


def _content(path: Path) -> dict[str, Any]:
    try:
        return dict(files.read_json(path))
    except (OSError, ValueError):
        return {}


def _modified(path: Path) -> int:
    """Time of modification (ns, Unix); 0 where there is nothing."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0
