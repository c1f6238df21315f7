"""Content of the pages of a group, a set, and the antennas."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from itertools import zip_longest
from pathlib import Path
from typing import Any

from contimg.antennas import history as antenna_history
from contimg.core import files
from contimg.core.errors import ContimgError
from contimg.core.paths import DataRoot, group_id, group_of, group_start
from contimg.ledger import history
from contimg.ledger.group_life import DONE, QUARANTINED
from contimg.ledger.rows import GroupRow
from contimg.service.source import DataSource
from contimg.traces import spans
from contimg.traces.spans import Span

_SHOWN = {
    "noise_jy": "noise (Jy/beam)",
    "thermal_noise_jy": "thermal noise (Jy/beam)",
    "dynamic_range": "dynamic range",
    "peak_jy": "peak (Jy/beam)",
    "sources": "sources",
    "imager": "imager",
    "quality": "quality",
    "verdict": "verdict",
    "age_hours": "age of calibration (h)",
}
_QUALITY = {
    "snr_median": "signal-to-noise, median",
    "phase_scatter_deg": "phase scatter (°)",
    "flagged_solutions": "flagged solutions (share)",
    "amplitude_scatter": "amplitude scatter (share)",
    "bandpass_roughness": "bandpass roughness (share)",
}
_GROUPS = 40
_REFUSED = 8
_LOG_BYTES = 200_000


def number(content: Mapping[str, Any], key: str) -> float | None:
    """Number in a sidecar; None if missing or of another type."""
    value = content.get(key)
    return value if isinstance(value, (int, float)) else None


def group(source: DataSource, name: str) -> dict[str, Any] | None:
    """Content of a group's page; None for an unknown group."""
    root = source.root
    with source.ledger() as ledger:
        row = ledger.group(name)
        if row is None:
            return None
        attempts = history.unit_attempts(ledger, name)
        found = spans.trace(root, ledger, name)
        older, newer = history.neighbours(ledger, name)
    manifest, image = files.read_json_if_any(root.manifest(name)), files.read_json_if_any(root.image(name, "json"))
    selection = files.read_json_if_any(root.image(name, "selection.json"))
    return {
        "row": row,
        "older": older,
        "newer": newer,
        "subbands": _subbands(manifest),
        "declination_deg": manifest.get("declination_deg"),
        "timeline": timeline(found),
        "trace": found[0].trace if found else "",
        "attempts": attempts,
        "selection": selection,
        "sets": _sets(selection),
        "refused": [
            (group_of(Path(candidate["set"])), candidate["offset_hours"], candidate["reason"])
            for candidate in selection.get("considered", ())
        ][:_REFUSED],
        "image": {label: image[key] for key, label in _SHOWN.items() if image.get(key) is not None},
        "reasons": image.get("reasons", []),
        "noise_over_thermal": _ratio(image),
        "picture": root.image(name, "png").exists(),
        "validation": (image.get("validation") or {}).get("gate")
        if root.image(name, "validation.html").exists()
        else None,
        "again": _again(root, row),
    }


def _again(root: DataRoot, row: GroupRow) -> str:
    """Command that makes a group again, beside a runner, too; empty for a group that has not ended."""
    if row.state == DONE:
        end = group_id(group_start(row.name) + timedelta(seconds=1))
        command = f"contimg reprocess --from {row.name} --until {end}"
    elif row.state == QUARANTINED:
        command = f"contimg quarantine release {row.name}"
    else:
        return ""
    return f"{command} --data-root {shlex.quote(str(root.root))}"


def _sets(selection: Mapping[str, Any]) -> list[tuple[str, float | None]]:
    """Calibration sets of a target, with the time (h) from the target to their observation."""
    paths, offsets = selection.get("sets", ()), selection.get("offsets_hours", ())
    return [(group_of(Path(path)), offset) for path, offset in zip_longest(paths, offsets[: len(paths)])]


def _ratio(image: Mapping[str, Any]) -> float | None:
    noise, thermal = number(image, "noise_jy"), number(image, "thermal_noise_jy")
    return noise / thermal if noise and thermal else None


def _subbands(manifest: Mapping[str, Any]) -> list[tuple[int, str, str]]:
    """Number, state and reason of each subband."""
    found = []
    for key, value in sorted(manifest.get("subbands", {}).items()):
        if isinstance(value, dict):
            found.append((int(key), str(value.get("state")), value.get("reason") or ""))
    return found


def timeline(found: list[Span]) -> list[dict[str, Any]]:
    """Bars of a trace, with place and width in per cent of the whole duration."""
    if not found:
        return []
    whole = found[0]
    length = max(whole.seconds, 1e-9)
    parents = {span.id: span.parent for span in found}
    rows = []
    for span in sorted(found[1:], key=lambda span: (span.start, -span.seconds)):
        start = 100 * (span.start - whole.start) / length
        kind = "failed" if span.failed else "wait" if span.name.startswith("wait") else "work"
        rows.append(
            {
                "name": span.name,
                "step": parents.get(span.parent, "") != "",
                "kind": kind,
                "start": round(min(start, 99.6), 2),
                "width": round(max(0.4, min(100 - start, 100 * span.seconds / length)), 2),
                "seconds": span.seconds,
                "message": span.attributes.get("message", ""),
                "error_class": span.attributes.get("error_class", ""),
            }
        )
    return rows


def log_text(root: DataRoot, log: str) -> str | None:
    """End of a log file of the data root; None for a missing file or a path outside."""
    path = (root.root / log).resolve()
    if not path.is_relative_to((root.root / "logs").resolve()) or path.suffix != ".log" or not path.is_file():
        return None
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def calibration_set(source: DataSource, name: str) -> dict[str, Any] | None:
    """Content of a set's page; None for an unknown set."""
    content = files.read_json_if_any(source.root.set(name))
    if not content:
        return None
    quality = content.get("quality", {})
    return {
        "name": name,
        "facts": list(_facts(content)),
        "quality": {
            _QUALITY.get(key, key.replace("_", " ")): value
            for key, value in quality.items()
            if isinstance(value, (int, float)) and key != "passed"
        },
        "passed": quality.get("passed") is True,
        "reasons": quality.get("reasons", []),
        "antennas": [antenna for antenna in content.get("antennas", []) if isinstance(antenna, dict)],
        "picture": source.root.path("set_png", name).exists(),
    }


def _facts(content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Calibrator, observation time and validity of a set, in words."""
    if calibrator := content.get("calibrator"):
        yield "calibrator", str(calibrator)
    for key, label in (("observed_utc", "observed"), ("valid_from", "valid from"), ("valid_until", "valid until")):
        if moment := content.get(key):
            yield label, f"{str(moment)[:16].replace('T', ' ')} UTC"
    if isinstance(content.get("declination_deg"), (int, float)):
        yield "declination", f"{content['declination_deg']:+.2f}°"
    if (reference := content.get("reference_antenna")) is not None:
        yield "reference antenna", str(reference)


def _newest_start(source: DataSource) -> datetime:
    """Start of the newest group, or now where none is known or its time lies ahead."""
    now = datetime.fromtimestamp(source.now(), UTC)
    try:
        with source.ledger() as ledger:
            newest = history.newest_groups(ledger, "A", 1)
    except ContimgError:
        return now
    return min(now, group_start(newest[0]["name"])) if newest else now


def antennas(source: DataSource) -> dict[str, Any]:
    """State of each antenna in the groups of a day up to the newest, oldest first, and the faults in the last."""
    found = antenna_history.newest(source.root, _newest_start(source), _GROUPS)
    columns = [{"group": content["group"], "at": group_start(content["group"])} for content in found]
    states: dict[str, list[str]] = {}
    for index, content in enumerate(found):
        for name, state in zip(content["names"], content["state"], strict=True):
            states.setdefault(name, ["absent"] * len(found))[index] = state
    reasons = dict(zip(found[-1]["names"], found[-1]["reasons"], strict=True)) if found else {}
    names = sorted(states, key=lambda name: (len(name), name))
    return {"columns": columns, "rows": [(name, states[name], "; ".join(reasons.get(name, ()))) for name in names]}
