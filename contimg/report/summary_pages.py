"""Page of a summary: tables and notes, as HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined


class _Column(NamedTuple):
    """Column of a table: heading, and text of a row's cell."""

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


def _validation(row: Mapping[str, Any]) -> str:
    if row["validation_gate"] is None:
        return ""
    return f"{row['validation_gate']}, {row['validation_matches']} matches"


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
            _Column("validation", _validation),
            _Column("flagged (%)", _number("flagged_fraction", ".0f", 100)),
            _Column("noise (mJy)", _number("noise_jy", ".3g", 1e3)),
            _Column("÷ thermal", _number("noise_over_thermal", ".2f")),
            _Column("peak ÷ noise", _number("dynamic_range", ".0f")),
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
            _Column("validation", _validation),
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


def tables(summary: Mapping[str, Any]) -> Iterable[tuple[str, Sequence[str], list[list[str]]]]:
    """Title, headings and cells of each table; columns that are empty in every row are left out."""
    for key, (title, columns) in _TABLES.items():
        rows = [[column.text(row) for column in columns] for row in summary[key]]
        filled = [number for number in range(len(columns)) if any(row[number] for row in rows)]
        yield title, [columns[number].head for number in filled], [[row[number] for number in filled] for row in rows]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """Counts, and remarks that the tables do not show."""
    counts = ", ".join(f"{number} {status}" for status, number in sorted(summary["counts"].items()))
    said = [f"{len(summary['groups'])} groups: {counts}" if counts else "No groups yet."]
    calibration = summary["calibration"]
    if calibration and calibration["observations"]:
        said.append(
            f"Calibration of the last {calibration['hours']:.0f} h: {calibration['covered']} of "
            f"{calibration['observations']} observations ({calibration['share']:.0%}) have a good set within "
            f"{calibration['within_hours']:g} h; the goal of {calibration['goal']:.0%} is "
            f"{'met' if calibration['met'] else 'missed'}."
        )
    if summary["older_groups"]:
        said.append(f"{summary['older_groups']} older groups are not shown.")
    if summary["unreadable"]:
        said.append(f"Not readable: {', '.join(summary['unreadable'])}")
    return said


_CLASSES = {
    **dict.fromkeys(("imaged", "fresh", "clean", "passed"), "good"),
    **dict.fromkeys(("waiting", "collecting", "running", "nearest", "degraded"), "warn"),
    **dict.fromkeys(("failed", "unusable", "stale"), "bad"),
}


def summary_html(summary: Mapping[str, Any]) -> str:
    """Summary as one self-contained HTML page."""
    templates = Environment(
        loader=PackageLoader("contimg.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return templates.get_template("summary.html").render(
        made_utc=summary["made_utc"], notes=notes(summary), tables=tables(summary), classes=_CLASSES
    )
