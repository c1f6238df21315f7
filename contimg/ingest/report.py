"""Scan report `state/arrivals.json`, for status and alerts: files in no group, wrong clocks, newest arrival."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from contimg.core import files
from contimg.core.errors import in_words
from contimg.core.paths import DataRoot, RawName, group_start
from contimg.ingest.incoming import printable_name
from contimg.ingest.manifest import Group, name_of
from contimg.ingest.placing import REACH_S

log = logging.getLogger(__name__)

_MOST = 20
"""Number of files of one kind named in the log at once; the audit names all."""


@dataclass(frozen=True)
class ScanReport:
    """Files in no group, subbands with wrong clocks, and arrival of the newest file.

    Attributes
    ----------
    untaken
        Entries named like raw files that are not taken, with the reason.
    unplaced
        Raw files in no group, with the reason.
    clocks
        Lead (s) of the clock in file names over the data, by subband ("sb07") where the clock is wrong, with the
        newest group that showed it.
    newest
        Arrival (Unix, s) of the newest file; the first scan where none has arrived.
    """

    untaken: Mapping[str, str] = field(default_factory=dict)
    unplaced: Mapping[str, str] = field(default_factory=dict)
    clocks: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    newest: float = 0.0

    @classmethod
    def read(cls, root: DataRoot) -> ScanReport:
        """Last report of a data root; empty without a readable one."""
        try:
            content = files.read_json(_path(root))
            return cls(
                dict(content["untaken"]),
                dict(content["unplaced"]),
                {subband: (float(ahead), str(group)) for subband, (ahead, group) in content["clocks"].items()},
                float(content["newest"]),
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    def write(self, root: DataRoot) -> None:
        """Write the report; a write error is logged and stops no intake."""
        try:
            files.write_json(_path(root), vars(self))
        except OSError as error:
            log.warning("%s: cannot be written: %s", _path(root), in_words(error))

    def after(
        self, groups: Iterable[Group], *, unplaced: Mapping[str, str], untaken: Mapping[str, str], newest: float
    ) -> ScanReport:
        """Report after a scan that found these groups."""
        clocks = dict(self.clocks)
        for group in groups:
            for number, ahead in clock_errors(group).items():
                subband = f"sb{number:02d}"
                if group.name < clocks.get(subband, (0.0, ""))[1]:
                    continue
                if abs(ahead) > REACH_S:
                    clocks[subband] = (ahead, group.name)
                else:
                    clocks.pop(subband, None)
        return ScanReport(
            {printable_name(name): why for name, why in sorted(untaken.items())},
            dict(sorted(unplaced.items())),
            clocks,
            max(self.newest, newest),
        )

    def tell(self, before: ScanReport) -> None:
        """Log the news since an earlier report."""
        for what, now, then in (
            ("looks like a raw file and is not taken", self.untaken, before.untaken),
            ("is in no group", self.unplaced, before.unplaced),
        ):
            new = [(name, why) for name, why in now.items() if then.get(name) != why]
            for name, why in new[:_MOST]:
                log.warning("%s: %s: %s", name, what, why.removeprefix(f"{name}: "))
            if len(new) > _MOST:
                log.warning("… and %d more: %s; contimg audit names all", len(new) - _MOST, what)
        for subband, (ahead, group) in self.clocks.items():
            if abs(ahead - before.clocks.get(subband, (0.0, ""))[0]) > REACH_S:
                log.warning(
                    "%s: the clock in its files' names is %.1f h %s their data (group %s); they go by their data",
                    subband,
                    abs(ahead) / 3600,
                    "ahead of" if ahead > 0 else "behind",
                    group,
                )


def clock_errors(group: Group) -> dict[int, float]:
    """Lead (s) of the time in each good file's name over the start of its data, by subband."""
    if group.frame is None:
        return {}
    start = group_start(group.name)
    return {
        number: (RawName.parse(name_of(subband)).opened - start).total_seconds()
        for number, subband in group.good.items()
    }


def _path(root: DataRoot) -> Path:
    return root.state / "arrivals.json"
