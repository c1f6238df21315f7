"""Reimaging: whether a better calibration is worth making an image again, and the sets that serve it until then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.paths import DataRoot, jd_to_datetime
from contimg.ingest.groups import raw_present
from contimg.ingest.manifest import load
from contimg.ingest.pointing_track import Drift
from contimg.sets.policy import CalibrationMerit, Choice, Verdict, choose
from contimg.sets.registry import Registry

_IN_HISTORY = ("verdict", "interpolated", "age_hours", "sets", "quality", "noise_jy", "dynamic_range")
"""Items of replaced images that a sidecar keeps."""


def serving_sets(registry: Registry, group: str) -> list[Path]:
    """Sets that the group's image is, or is to be, made with.

    A group without an image gets the best sets. An image keeps its own until a calibration worth a remake comes,
    however many sets come and go.

    Returns
    -------
    list of Path
        `set.json` files in order of time; empty where no set can serve.

    Raises
    ------
    ContimgError
        If the manifest does not say when the group was observed.
    """
    root, choice = registry.root, _best(registry, group)
    selection = _selection_of_image(root, group)
    if selection is not None and (choice is None or not _better(registry, selection, choice)):
        return [root.root / name for name in selection["sets"]]
    return [root.root / chosen.path for chosen in choice.sets] if choice else []


def due(registry: Registry, groups: Iterable[str]) -> list[str]:
    """Groups whose image is to be made again, because a better calibration exists or was selected.

    A set that was solved again with another primary beam takes the images that it serves along.

    A new set affects groups within `calibration.nearest_within_hours` of it, and no others; one that was solved again
    also those whose images are made with it.

    Raises
    ------
    ContimgError
        If a manifest does not say when its group was observed.
    """
    return [group for group in groups if _due(registry, group)]


def uses(root: DataRoot, group: str, set_group: str) -> bool:
    """Whether a group's image is made with the set of a calibrator's group."""
    selection = _selection_of_image(root, group)
    return selection is not None and root.set(set_group).relative_to(root.root).as_posix() in selection["sets"]


def history(replaced: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """Earlier versions of an image, the oldest first, from the sidecar of the last one."""
    if replaced is None:
        return []
    kept = {key: replaced.get(key) for key in _IN_HISTORY}
    made = replaced.get("made", {})
    return [*replaced.get("history", []), {**kept, "made": {key: made.get(key) for key in ("version", "written")}}]


def _due(registry: Registry, group: str) -> bool:
    root = registry.root
    selection = _selection_of_image(root, group)
    if selection is None:
        return False
    image = files.read_json(root.image(group, "json"))
    if image.get("sets", selection["sets"]) != selection["sets"]:  # its last remake failed
        return _can_be_remade(root, group)
    if _beams_have_changed(root, image):
        return _can_be_remade(root, group)
    choice = _best(registry, group)
    return choice is not None and _better(registry, selection, choice)


def _beams_have_changed(root: DataRoot, image: Mapping[str, Any]) -> bool:
    """Whether sets of an image were solved again since, with another primary beam."""
    named = [files.read_json_if_any(root.root / name).get("primary_beam") for name in image.get("sets", ())]
    present = {name for name in named if isinstance(name, str)}
    return "calibration_beams" in image and bool(present - {*image["calibration_beams"]})


def _best(registry: Registry, group: str) -> Choice | None:
    middle = jd_to_datetime(Drift.of_group(registry.root.manifest(group)).middle_jd)
    return choose(middle, registry.for_target(middle), registry.limits, registry.field_hours(group, middle))[0]


def _selection_of_image(root: DataRoot, group: str) -> dict[str, Any] | None:
    """Selection of sets of the group's image; None without an image."""
    selection = root.image(group, "selection.json")
    if not (selection.exists() and root.image(group, "json").exists()):
        return None
    return dict(files.read_json(selection))


def _better(registry: Registry, selection: dict[str, Any], choice: Choice) -> bool:
    """Whether a choice is to take the place of the selection that an image was made with."""
    if [chosen.path for chosen in choice.sets] == selection["sets"]:
        return False
    old, new = CalibrationMerit.of_selection(selection), choice.merit
    verdict = files.read_json(registry.root.image(selection["group"], "json"))["verdict"]
    if old.verdict is Verdict.FIELD and verdict != Verdict.FIELD:  # its field failed its gates
        old, new = CalibrationMerit.of_selection(selection | {"verdict": verdict}), choice.without_field or new
    worth = new.worth_remaking(old, registry.limits.upgrade_min_hours)
    bad = any(_found_bad(registry, name) for name in selection["sets"])
    return (worth or bad) and _can_be_remade(registry.root, selection["group"])


def _can_be_remade(root: DataRoot, group: str) -> bool:
    """Whether the group's Measurement Set is there or can be made."""
    return root.ms(group).exists() or raw_present(root, load(root.manifest(group)))


def _found_bad(registry: Registry, name: str) -> bool:
    """Whether a set in use, solved again, has failed; a missing set has not."""
    path = registry.root.root / name
    return path.exists() and not registry.read(path).passed
