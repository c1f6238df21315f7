"""Summary of a data root: a row for each group, set, mosaic and stage, as data.

The source is manifests, sidecars and attempt records. Missing values stay empty, so that a summary can be made at any
moment of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import UTC, datetime
from typing import Any

from contimg.core.paths import DataRoot, group_date, group_start
from contimg.core.sections import Calibration
from contimg.report import summary_rows
from contimg.sets import coverage
from contimg.sets.registry import Registry

_MOST_GROUPS = 1000
"""Largest number of groups in a summary, the newest ones, so that the cost does not grow with the history."""


def summarise(root: DataRoot, calibration: Calibration, wanted: Collection[str] = ()) -> dict[str, Any]:
    """Summary of a data root.

    Parameters
    ----------
    root
        The data root.
    calibration
        Settings of the sets.
    wanted
        Groups to which the summary is limited; empty for all groups.

    Returns
    -------
    dict
        made_utc; counts (groups by status); calibration (`coverage.coverage` up to the newest group, None without
        groups); groups, sets, mosaics and stages (lists of rows, in order of time);
        older_groups (how many are left out because the newest are enough); unreadable (sidecars that are not JSON).
    """
    reader = summary_rows.SidecarReader(root.root)
    shown, older = summary_rows.newest_groups(root, wanted, _MOST_GROUPS)
    days = sorted({group_date(name) for name in shown})
    windows = sorted(name for day in days for name, _ in root.made("mosaic_sidecar", day))
    attempts = {name: summary_rows.newest_attempts(root, name, reader) for name in (*shown, *windows)}
    groups = [summary_rows.group_row(root, name, attempts[name], reader) for name in shown]
    registry = Registry(root, calibration)
    return {
        "made_utc": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "counts": dict(Counter(row["status"] for row in groups)),
        "calibration": coverage.coverage(registry, group_start(shown[-1])) if shown else None,
        "groups": groups,
        "sets": [summary_rows.set_row(path, groups, reader) for path in summary_rows.set_paths(root, days, groups)],
        "mosaics": [summary_rows.mosaic_row(root, window, attempts[window], reader) for window in windows],
        "stages": summary_rows.stage_rows(attempts.values()),
        "older_groups": older,
        "unreadable": sorted(reader.unreadable),
    }
