"""Rows of a summary: each group, set, mosaic and stage, from manifests, sidecars and attempt records."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from contimg.core.errors import ErrorClass
from contimg.core.files import read_json
from contimg.core.paths import DataRoot, group_of, group_start
from contimg.core.products import PRODUCTS
from contimg.core.stages import unit_stages
from contimg.ingest.manifest import names_in
from contimg.job.attempt_record import AttemptRecord, newest, records

_DAY = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"


class SidecarReader:
    """Reader of sidecars: missing and broken files read as empty, broken files are remembered."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.unreadable: set[str] = set()

    def __call__(self, path: Path) -> dict[str, Any]:
        """Content of a JSON file that holds a mapping."""
        try:
            return dict(read_json(path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            self.refuse(path)
            return {}

    def refuse(self, path: Path) -> None:
        """Remember an unreadable file."""
        self.unreadable.add(str(path.relative_to(self._root)))


def newest_groups(root: DataRoot, wanted: Collection[str], most: int) -> tuple[list[str], int]:
    """Names of the newest groups that have a manifest or an image, in order of time, and the number of older ones.

    Only the newest days of images are listed, so that the cost does not grow with the history.
    """
    names = {*names_in(root.groups)}
    imaged: set[str] = set()
    days = (root.root / PRODUCTS["image_sidecar"].folder).glob(_DAY)
    for day in sorted(days, reverse=True) if not wanted else ():
        imaged |= {group for group, _ in root.made("image_sidecar", day.name)}
        if len(imaged) >= most:
            break
    if wanted:
        imaged = {name for name in wanted if root.image(name, "json").exists()}
        names &= set(wanted)
    shown = sorted(names | imaged)
    return shown[-most:], max(0, len(shown) - most)


def newest_attempts(root: DataRoot, unit: str, reader: SidecarReader) -> dict[str, AttemptRecord]:
    """Newest attempt of every rule for a group or window."""
    return newest(records(root, unit, unreadable=lambda path, _: reader.refuse(path)))


def group_row(
    root: DataRoot, group: str, attempts: Mapping[str, AttemptRecord], reader: SidecarReader
) -> dict[str, Any]:
    """Row of a group: state, calibration, quality of its image."""
    manifest, ms, image = (
        reader(path) for path in (root.manifest(group), root.ms_sidecar(group), root.image(group, "json"))
    )
    calibrator = reader(root.calibrator(group)).get("calibrator") or {}
    selection = reader(root.image(group, "selection.json"))
    status, reason = _status(root, group, manifest, attempts, imaged=bool(image))
    subbands = manifest.get("subbands", {}).values()
    noise, thermal = image.get("noise_jy"), image.get("thermal_noise_jy")
    return {
        "group": group,
        "start_utc": f"{group_start(group):%Y-%m-%dT%H:%M:%SZ}",
        "status": status,
        "reason": reason,
        "state": manifest.get("state"),
        "good_subbands": sum(subband["state"] == "good" for subband in subbands) if subbands else None,
        "declination_deg": manifest.get("declination_deg"),
        "flagged_fraction": ms.get("flagged_fraction"),
        "calibrator": calibrator.get("name"),
        "set": group_of(Path(selection["set"])) if "set" in selection else None,
        "sets": [group_of(Path(path)) for path in selection.get("sets", ())],
        "verdict": image.get("verdict", selection.get("verdict")),
        "age_hours": image.get("age_hours", selection.get("age_hours")),
        "warning": selection.get("warning"),
        "quality": image.get("quality"),
        "quality_reasons": image.get("reasons", []),
        **_validation(image),
        "noise_jy": noise,
        "thermal_noise_jy": thermal,
        "noise_over_thermal": noise / thermal if noise and thermal else None,
        "dynamic_range": image.get("dynamic_range"),
        "peak_jy": image.get("peak_jy"),
        "sources": image.get("sources"),
        "durations_s": _durations(attempts),
    }


def _status(
    root: DataRoot, group: str, manifest: Mapping[str, Any], attempts: Mapping[str, AttemptRecord], *, imaged: bool
) -> tuple[str, str | None]:
    """Status of a group, with the reason if it has no image.

    Values: imaged, collecting, unusable (waits for quarantine), running, failed and waiting.
    """
    failures = (record for record in attempts.values() if record.outcome == "failed")
    failed = max(failures, key=lambda record: record.finished, default=None)
    running = sorted(rule for rule, record in attempts.items() if record.running)
    reason = None
    if failed:
        reason = f"{failed.rule} failed: {failed.message or 'without a word'} (attempt {failed.attempt})"
    if imaged:
        return "imaged", reason
    if manifest.get("state") in ("collecting", "unusable"):
        return manifest["state"], manifest.get("reason")
    if running:
        return "running", ", ".join(running)
    if failed:
        lacks_calibration = failed.error_class == ErrorClass.MISSING_CALIBRATION
        return ("waiting" if lacks_calibration else "failed"), reason
    if not root.ms_sidecar(group).exists():
        reason = "to be converted"
    elif not root.image(group, "selection.json").exists():
        reason = "for a usable calibration set"
    else:
        reason = "to be imaged"
    return "waiting", reason


def set_paths(root: DataRoot, days: Iterable[str], groups: Iterable[Mapping[str, Any]]) -> list[Path]:
    """Sets of the given days, and sets that the given groups use."""
    paths = {path for day in days for _, path in root.made("set", day)}
    paths |= {root.set(name) for row in groups for name in row["sets"]}
    return sorted(path for path in paths if path.exists())


def set_row(path: Path, groups: Iterable[Mapping[str, Any]], reader: SidecarReader) -> dict[str, Any]:
    """Row of a set: calibrator, quality, number of groups that use it."""
    name = path.parent.name
    content = reader(path)
    quality = content.get("quality", {})
    return {
        "set": name,
        "calibrator": content.get("calibrator"),
        "observed_utc": content.get("observed_utc"),
        "valid_from": content.get("valid_from"),
        "valid_until": content.get("valid_until"),
        "passed": quality.get("passed"),
        "reasons": quality.get("reasons", []),
        "reference_antenna": content.get("reference_antenna"),
        "flagged_solutions": quality.get("flagged_solutions"),
        "snr_median": quality.get("snr_median"),
        "phase_scatter_deg": quality.get("phase_scatter_deg"),
        "dead_antennas": quality.get("dead_antennas"),
        "used_by": sum(name in row["sets"] for row in groups),
    }


def mosaic_row(
    root: DataRoot, window: str, attempts: Mapping[str, AttemptRecord], reader: SidecarReader
) -> dict[str, Any]:
    """Row of a mosaic: its images and quality."""
    content = reader(root.mosaic(window, "json"))
    keys = ("verdict", "age_hours", "quality", "reasons", "noise_jy", "depth_jy", "peak_jy", "area_deg2", "missing")
    return {
        "window": window,
        "image": str(root.mosaic(window).relative_to(root.root)),
        "images": len(content.get("groups", [])),
        **{key: content.get(key) for key in keys},
        **_validation(content),
        "durations_s": _durations(attempts),
    }


def _validation(content: Mapping[str, Any]) -> dict[str, Any]:
    """Gate of a product's validation, and number of sources that it was compared by; None without one."""
    validation = content.get("validation") or {}
    return {"validation_gate": validation.get("gate"), "validation_matches": validation.get("matches")}


def _durations(attempts: Mapping[str, AttemptRecord]) -> dict[str, float]:
    """Run time (s) of every successful stage."""
    done = ((rule, attempts[rule]) for rule in unit_stages() if rule in attempts and attempts[rule].outcome == "ok")
    return {rule: record.duration_s for rule, record in done if record.duration_s is not None}


def stage_rows(attempts: Iterable[Mapping[str, AttemptRecord]]) -> list[dict[str, Any]]:
    """Rows of the stages: outcomes of the newest attempts, and their run times."""
    outcomes: dict[str, Counter[str]] = defaultdict(Counter)
    seconds: dict[str, list[float]] = defaultdict(list)
    for by_rule in attempts:
        for rule, record in by_rule.items():
            outcomes[rule][record.outcome] += 1
        for rule, duration in _durations(by_rule).items():
            seconds[rule].append(duration)
    return [
        {
            "stage": stage,
            "ok": outcomes[stage]["ok"],
            "failed": outcomes[stage]["failed"],
            "median_s": median(seconds[stage]) if seconds[stage] else None,
            "longest_s": max(seconds[stage], default=None),
        }
        for stage in unit_stages()
        if stage in outcomes
    ]
