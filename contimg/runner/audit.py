"""Audit: every file that ever arrived is accounted for, and no half-made or forgotten file is left.

A file is accounted for if it is in a product's provenance, waits with a reason, or is in quarantine with a reason.
The audit reads the whole data root: it is for people and tests, not for a pass of the runner.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from contimg.arrivals.intake import stray_wait_s
from contimg.core import processes
from contimg.core.errors import ContimgError, in_words, one_line
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS, BackupRule
from contimg.core.sections import Ingest, Staging
from contimg.core.stages import STAGES, Per, Stage, required_products, sidecar, stage_making
from contimg.execute.lease import holder, mark_of
from contimg.execute.snakemake import sessions_handed_over
from contimg.ingest import quarantine
from contimg.ingest.incoming import list_incoming, printable_name
from contimg.ingest.manifest import Group, load
from contimg.ingest.report import ScanReport
from contimg.job import staging
from contimg.ledger.ledger import Ledger
from contimg.ledger.rows import GroupRow
from contimg.runner import cleanup
from contimg.storage.archive import is_removed


@dataclass
class AuditResult:
    """Result of an audit."""

    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def balance(self) -> bool:
        """Whether the audit found no problem."""
        return not self.problems


def audit(root: DataRoot, ingest: Ingest, staging: Staging, ledger: Ledger, now: float) -> AuditResult:
    """Audit a data root at a time (Unix, s), without the groups and windows of running calls."""
    return _Audit(root, ingest, staging, ledger, now).books()


class _Audit:
    def __init__(self, root: DataRoot, ingest: Ingest, staging: Staging, ledger: Ledger, now: float) -> None:
        self._root = root
        self._patience_s = stray_wait_s(ingest)
        self._staging = staging.directory
        self._ledger = ledger
        self._now = now
        self._books = AuditResult()
        self._holder = holder(root)
        works = self._holder and self._holder.holds  # calls of a dead runner make nothing any more
        self._busy = {unit for call in ledger.calls() for unit in call.units} if works else set()
        self._entries = {entry.group: entry for entry in quarantine.entries(root)}

    def books(self) -> AuditResult:
        groups = dict(self._groups())
        self._incoming(groups)
        self._quarantine(groups)
        for group in groups.values():
            self._group(group)
        self._products(groups)
        self._leftovers()
        return self._books

    def _wrong(self, problem: str) -> None:
        self._books.problems.append(one_line(problem))

    def _groups(self) -> Iterator[tuple[str, Group]]:
        for path in sorted(self._root.groups.glob("*.json")):
            try:
                yield path.stem, load(path)
            except (OSError, ValueError, KeyError, TypeError) as error:
                self._wrong(f"{path}: cannot be read as a manifest ({in_words(error)})")

    # Files that arrived

    def _incoming(self, groups: dict[str, Group]) -> None:
        """Check that every file in `incoming/` is in a manifest, has just arrived, or is no raw file."""
        recorded = {
            subband.path
            for group in groups.values()
            for subband in (*group.subbands.values(), *group.duplicates)
            if subband.path
        }
        listing = list_incoming(self._root, self._now)
        for name, why in sorted(listing.untaken.items()):
            self._wrong(f"incoming/{printable_name(name)}: looks like a raw file and is not taken: {why}; rename it")
        entries = sum(1 for _ in self._root.incoming.iterdir())
        left_alone = entries - len(listing.files) - len(listing.untaken)
        self._books.counts["files left alone (not finished, or not ours)"] += left_alone
        unplaced = ScanReport.read(self._root).unplaced
        in_groups = {name for name, file in listing.files.items() if file.place in recorded}
        self._books.counts["files in incoming/, in a group"] += len(in_groups)
        for name, file in listing.files.items():
            if name in in_groups:
                continue
            if self._now - file.changed_s < self._patience_s:
                self._books.counts["files in incoming/ that have just come"] += 1
            else:
                self._wrong(
                    f"{self._root.incoming / name}: is in no group: {unplaced.get(name, 'a scan takes it up')}"
                )

    def _quarantine(self, groups: dict[str, Group]) -> None:
        self._books.counts["groups in quarantine"] += self._ledger.quarantined_count()
        for entry in self._entries.values():
            self._books.counts["files in quarantine"] += len(entry.names)
            folder = self._root.quarantine(entry.group)
            for place in entry.places(self._root):
                if not place.exists():
                    self._wrong(f"{folder}: holds {place.name} by its record, and it is gone")
            if entry.group not in groups and not entry.stray:
                self._wrong(f"{folder}: there is no manifest of this group")
        folder = self._root.root / "quarantine"
        for path in folder.iterdir() if folder.is_dir() else ():
            superseded = list((path / quarantine.SUPERSEDED).glob("*"))
            self._books.counts["files superseded, kept in quarantine"] += len(superseded)
            if path.name not in self._entries and not superseded:
                self._wrong(f"{path}: has no reason.json that can be read")

    def _group(self, group: Group) -> None:
        """Check that each of a group's files exists, and that the group has ended or waits with a reason."""
        row = self._ledger.group(group.name)
        processed = self._root.ms_sidecar(group.name).exists() or self._root.image(group.name, "json").exists()
        entry = self._entries.get(group.name)
        kept = {Path(item["from"]).name for item in entry.content["files"]} if entry else set()
        for subband in (*group.subbands.values(), *group.duplicates):
            if not subband.path or Path(subband.path).name in kept or (self._root.root / subband.path).exists():
                continue
            if not (is_removed(self._root, "raw", group.name) or processed):
                self._wrong(f"{subband.path}: arrived, is gone, and nothing was made of it")
            self._books.counts["files of the past, in a product or archived"] += 1
        if row is None:
            self._wrong(f"{group.name}: the ledger does not know it (a scan takes it up)")
        else:
            self._books.counts[f"groups {_state(row)}"] += 1
            self._row(row)

    def _row(self, row: GroupRow) -> None:
        name = row.name
        if row.state == "done" and not self._root.image(name, "json").exists():
            self._wrong(f"{name}: is said to be done and has no image")
        if row.state == "quarantined" and name not in self._entries:
            self._wrong(f"{name}: is said to be in quarantine and is not")
        if row.state != "quarantined" and name in self._entries and not self._entries[name].stray:
            self._wrong(f"{name}: is in quarantine and said to be {row.state}")
        if row.state == "collecting" and not row.reason:
            self._wrong(f"{name}: waits without a reason")

    # Products

    def _products(self, groups: dict[str, Group]) -> None:
        """Check that every product is whole, and its group known."""
        for stage in STAGES.values():
            standing = sidecar(stage.name)
            if standing is None:
                continue
            wanted = {product.name for product in required_products(stage.name)}
            for unit, there in sorted(self._made(stage).items()):
                if unit in self._busy:
                    continue
                place = f"{standing.folder}/…/{unit}"
                if stage.per is Per.GROUP and standing.backup is not BackupRule.SET and unit not in groups:
                    self._wrong(f"{place}: there is no manifest of this group")
                self._books.counts[stage.called or f"of stage {stage.name}"] += there == wanted
                alone = there == {standing.name} and self._is_past(stage, unit)
                if there and there != wanted and not alone:
                    names = ", ".join(sorted(PRODUCTS[name].suffix for name in there))
                    self._wrong(f"{place}: half a product, only {names}")

    def _made(self, stage: Stage) -> dict[str, set[str]]:
        """Groups or windows with products that complete a stage, and the names of these products."""
        found: dict[str, set[str]] = {}
        for product in required_products(stage.name):
            for unit, _ in self._root.made(product.name):
                found.setdefault(unit, set()).add(product.name)
        return found

    def _is_past(self, stage: Stage, unit: str) -> bool:
        """Whether a sidecar may stand without its product: archived, or already imaged."""
        kinds = {product.archive for product in stage.products if product.archive}
        used = {*stage_making("image").needs} & {*stage.makes} and self._root.image(unit, "json").exists()
        return bool(kinds and (used or any(is_removed(self._root, kind, unit) for kind in kinds)))

    def _leftovers(self) -> None:
        """Check for half-written files, staging and processes without an owner."""
        for kind in sorted({product.folder for product in PRODUCTS.values()}):
            for path in (self._root.root / kind).rglob(".*"):
                if cleanup.is_abandoned(path):
                    self._wrong(f"{path}: half-written, and its process is dead")
        for path in staging.stale(self._root, self._staging):
            self._wrong(f"{path}: staging of a dead process")
        now = self._holder
        current = f"{mark_of(self._root)}{now.number}" if now and now.holds else None
        environment = {process.pid: process for process in processes.marked_processes(mark_of(self._root))}
        own = {process.pid for process in processes.marked_processes(current)} if current else set()
        handed_over = sessions_handed_over(self._root)
        own |= {pid for pid in environment if processes.session_of(pid) in handed_over}
        for pid in environment.keys() - own:
            self._wrong(f"process {pid}: works for a runner that is dead")


def _state(row: GroupRow) -> str:
    if row.state == "due":
        return f"waiting for {row.stage}" if not row.error_class else f"waiting after {row.error_class}"
    return row.state


def audit_with_errors(root: DataRoot, ingest: Ingest, staging: Staging, ledger: Ledger, now: float) -> AuditResult:
    """Audit in which an unreadable file is a problem of its own, not an error."""
    try:
        return audit(root, ingest, staging, ledger, now)
    except (ContimgError, OSError) as error:
        return AuditResult(problems=[str(error)])
