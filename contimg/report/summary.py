"""Summary of a data root: a row for each group, set, mosaic and stage; as data, text and HTML.

Everything is read from manifests, sidecars and attempt records. Whatever is not there yet is left empty, so that a
summary can be made at any moment of a run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, NamedTuple

from contimg.core.config import Settings
from contimg.core.paths import DataRoot, group_date, group_of, group_start
from contimg.report import summary_rows
from contimg.sets import coverage
from contimg.sets.registry import Registry

_MOST_GROUPS = 1000
"""Groups in a summary: the newest ones, so that it costs the same after years."""


def summarise(root: DataRoot, settings: Settings) -> dict[str, Any]:
    """Summary of a data root.

    Parameters
    ----------
    root
        The data root.
    settings
        `groups`, where it is not empty, limits the summary to these.

    Returns
    -------
    dict
        made_utc; counts (groups by status); calibration (`coverage.coverage` up to the newest group, None without
        groups); groups, sets, mosaics and stages (lists of rows, in order of time);
        older_groups (how many are left out because the newest are enough); unreadable (sidecars that are not JSON).
    """
    reader = summary_rows.Reader(root.root)
    names = summary_rows.group_names(root, settings)
    shown = names[-_MOST_GROUPS:]
    days = sorted({group_date(name) for name in shown})
    windows = sorted(group_of(path) for day in days for path in (root.root / "mosaics" / day).glob("*.json"))
    attempts = {name: summary_rows.newest_attempts(root, name, reader) for name in (*shown, *windows)}
    groups = [summary_rows.group_row(root, name, attempts[name], reader) for name in shown]
    registry = Registry(root, settings.calibration)
    return {
        "made_utc": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "counts": dict(Counter(row["status"] for row in groups)),
        "calibration": coverage.coverage(registry, group_start(names[-1])) if names else None,
        "groups": groups,
        "sets": [summary_rows.set_row(path, groups, reader) for path in summary_rows.set_paths(root, days, groups)],
        "mosaics": [summary_rows.mosaic_row(root, window, attempts[window], reader) for window in windows],
        "stages": summary_rows.stage_rows(attempts.values()),
        "older_groups": len(names) - len(shown),
        "unreadable": sorted(reader.unreadable),
    }


class _Column(NamedTuple):
    """A column of a table: its head, and a row's text in it."""

    head: str
    text: Callable[[Mapping[str, Any]], str]


def _plain(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[key] is None else str(row[key])


def _number(key: str, form: str, scale: float = 1.0) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "" if row[key] is None else format(row[key] * scale, form)


def _joined(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: "; ".join(row[key] or [])


def _utc(key: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda row: (row[key] or "")[:16].replace("T", " ")


def _seconds(row: Mapping[str, Any]) -> str:
    durations = row["durations_s"]
    return format(sum(durations.values()), ".0f") if durations else ""


def _sets(row: Mapping[str, Any]) -> str:
    return " + ".join(row["sets"])


def _remarks(row: Mapping[str, Any]) -> str:
    return "; ".join(text for text in (row["reason"], row["warning"], *row["quality_reasons"]) if text)


def _gate(row: Mapping[str, Any]) -> str:
    return {True: "passed", False: "failed", None: ""}[row["passed"]]


_TABLES: dict[str, tuple[str, tuple[_Column, ...]]] = {
    "groups": (
        "Groups",
        (
            _Column("group", _plain("group")),
            _Column("status", _plain("status")),
            _Column("subbands", _plain("good_subbands")),
            _Column("calibrator", _plain("calibrator")),
            _Column("set used", _sets),
            _Column("verdict", _plain("verdict")),
            _Column("age (h)", _number("age_hours", ".1f")),
            _Column("quality", _plain("quality")),
            _Column("flagged (%)", _number("flagged_fraction", ".0f", 100)),
            _Column("noise (mJy)", _number("noise_jy", ".3g", 1e3)),
            _Column("÷ thermal", _number("noise_over_thermal", ".2f")),
            _Column("dyn. range", _number("dynamic_range", ".0f")),
            _Column("sources", _plain("sources")),
            _Column("run time (s)", _seconds),
            _Column("remarks", _remarks),
        ),
    ),
    "sets": (
        "Calibration sets",
        (
            _Column("set", _plain("set")),
            _Column("calibrator", _plain("calibrator")),
            _Column("gate", _gate),
            _Column("valid from", _utc("valid_from")),
            _Column("valid until", _utc("valid_until")),
            _Column("flagged (%)", _number("flagged_solutions", ".0f", 100)),
            _Column("SNR", _number("snr_median", ".0f")),
            _Column("phase scatter (°)", _number("phase_scatter_deg", ".1f")),
            _Column("ref. antenna", _plain("reference_antenna")),
            _Column("used by", _plain("used_by")),
            _Column("remarks", _joined("reasons")),
        ),
    ),
    "mosaics": (
        "Mosaics",
        (
            _Column("window", _plain("window")),
            _Column("images", _plain("images")),
            _Column("missing", _joined("missing")),
            _Column("verdict", _plain("verdict")),
            _Column("age (h)", _number("age_hours", ".1f")),
            _Column("quality", _plain("quality")),
            _Column("noise (mJy)", _number("noise_jy", ".3g", 1e3)),
            _Column("area (deg²)", _number("area_deg2", ".1f")),
            _Column("run time (s)", _seconds),
            _Column("remarks", _joined("reasons")),
        ),
    ),
    "stages": (
        "Run times",
        (
            _Column("stage", _plain("stage")),
            _Column("done", _plain("ok")),
            _Column("failed", _plain("failed")),
            _Column("median (s)", _number("median_s", ".1f")),
            _Column("longest (s)", _number("longest_s", ".1f")),
        ),
    ),
}


def _tables(summary: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, heads and cells of each table; columns that are empty in every row are left out."""
    for key, (title, columns) in _TABLES.items():
        rows = [[column.text(row) for column in columns] for row in summary[key]]
        filled = [number for number in range(len(columns)) if any(row[number] for row in rows)]
        yield title, [columns[number].head for number in filled], [[row[number] for number in filled] for row in rows]


def _notes(summary: Mapping[str, Any]) -> list[str]:
    """Counts, and what the tables do not show."""
    counts = ", ".join(f"{number} {status}" for status, number in sorted(summary["counts"].items()))
    notes = [f"{len(summary['groups'])} groups: {counts}" if counts else "No groups yet."]
    calibration = summary["calibration"]
    if calibration and calibration["observations"]:
        notes.append(
            f"Calibration of the last {calibration['hours']:.0f} h: {calibration['covered']} of "
            f"{calibration['observations']} observations ({calibration['share']:.0%}) have a good set within "
            f"{calibration['within_hours']:g} h; the goal of {calibration['goal']:.0%} is "
            f"{'met' if calibration['met'] else 'missed'}."
        )
    if summary["older_groups"]:
        notes.append(f"{summary['older_groups']} older groups are not shown.")
    if summary["unreadable"]:
        notes.append(f"Not readable: {', '.join(summary['unreadable'])}")
    return notes


def summary_text(summary: Mapping[str, Any]) -> str:
    """Write a summary as text tables of fixed-width columns."""
    parts = ["\n".join(_notes(summary))]
    for title, heads, rows in _tables(summary):
        if rows:
            widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
            lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in (heads, *rows)]
            parts.append("\n".join([title, lines[0], "  ".join("─" * width for width in widths), *lines[1:]]))
    return "\n\n".join(parts) + "\n"


_STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #1c1c1c; background: #fff; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 1.6em 0 .4em; }
p { margin: .3em 0; color: #555; }
table { border-collapse: collapse; } th, td { padding: .25em .7em; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #888; font-weight: 600; position: sticky; top: 0; background: #fff; }
td { border-bottom: 1px solid #e4e4e4; font-variant-numeric: tabular-nums; }
td:last-child { white-space: normal; max-width: 40em; }
.good { color: #17692f; } .warn { color: #9a5b00; } .bad { color: #b3261e; font-weight: 600; }
"""
_CLASSES = {
    **dict.fromkeys(("imaged", "fresh", "clean", "passed"), "good"),
    **dict.fromkeys(("waiting", "collecting", "running", "nearest", "degraded"), "warn"),
    **dict.fromkeys(("failed", "unusable", "stale"), "bad"),
}


def summary_html(summary: Mapping[str, Any]) -> str:
    """Write a summary as one HTML page that needs nothing else."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8"><title>contimg: summary</title>',
        f"<style>{_STYLE}</style></head><body>",
        "<h1>Summary</h1>",
        f"<p>Made {escape(summary['made_utc'])}</p>",
        *(f"<p>{escape(note)}</p>" for note in _notes(summary)),
    ]
    for title, heads, rows in _tables(summary):
        if rows:
            parts += [f"<h2>{escape(title)}</h2>", "<table><thead><tr>"]
            parts += [f"<th>{escape(head)}</th>" for head in heads]
            parts.append("</tr></thead><tbody>")
            parts += ["<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows]
            parts.append("</tbody></table>")
    parts.append("</body></html>")
    return "\n".join(parts) + "\n"


def _cell(text: str) -> str:
    style = f' class="{_CLASSES[text]}"' if text in _CLASSES else ""
    return f"<td{style}>{escape(text)}</td>"
