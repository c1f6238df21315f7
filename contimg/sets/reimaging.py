"""When a better calibration is worth making an image again, and what it is made with until then."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.config import Settings
from contimg.core.paths import DataRoot, jd_to_datetime
from contimg.ingest import groups as grouping
from contimg.ingest.pointing_track import Drift
from contimg.sets.policy import Choice, Standing, choose
from contimg.sets.registry import CalibrationSet, Registry

_IN_HISTORY = ("verdict", "interpolated", "age_hours", "sets", "quality", "noise_jy", "dynamic_range")
"""What an image's sidecar keeps of those that it replaced."""


def serving(root: DataRoot, group: str, registry: Registry, settings: Settings) -> list[Path]:
    """The sets that the group's image is, or is to be, made with.

    For a group without an image the best there are. An image keeps its own as long as nothing worth a remake has
    come: then nothing changes for it, however many sets come and go.

    Returns
    -------
    list of Path
        `set.json` files in order of time; none where nothing can serve.

    Raises
    ------
    ContimgError
        If the manifest does not say when the group was observed.
    """
    choice = _best(root, group, registry, settings)
    selection = _selection_of_image(root, group)
    if selection is not None and (choice is None or not _better(root, selection, choice, settings)):
        return [root.root / name for name in selection["sets"]]
    return [root.root / one.path for one in choice.sets] if choice else []


def due(root: DataRoot, groups: Iterable[str], settings: Settings) -> list[str]:
    """Those of the groups whose image is to be made again, because a better calibration is there or was selected.

    A new set makes this of groups within `calibration.nearest_within_hours` of it, and of no others.

    Raises
    ------
    ContimgError
        If a manifest does not say when its group was observed.
    """
    registry = Registry(root, settings)
    return [group for group in groups if _due(root, group, registry, settings)]


def history(replaced: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """What earlier versions of an image were, from the sidecar of the last of them; the first of them first."""
    if replaced is None:
        return []
    kept = {key: replaced.get(key) for key in _IN_HISTORY}
    made = replaced.get("made", {})
    return [*replaced.get("history", []), {**kept, "made": {key: made.get(key) for key in ("version", "written")}}]


def _due(root: DataRoot, group: str, registry: Registry, settings: Settings) -> bool:
    selection = _selection_of_image(root, group)
    if selection is None:
        return False
    image = files.read_json(root.image(group, "json"))
    if image.get("sets", selection["sets"]) != selection["sets"]:  # its last remake failed
        return _can_be_remade(root, group)
    choice = _best(root, group, registry, settings)
    return choice is not None and _better(root, selection, choice, settings)


def _best(root: DataRoot, group: str, registry: Registry, settings: Settings) -> Choice | None:
    middle = jd_to_datetime(Drift.of_group(root.manifest(group)).middle_jd)
    return choose(middle, registry.for_target(middle), settings)[0]


def _selection_of_image(root: DataRoot, group: str) -> dict[str, Any] | None:
    """What the group's image was made with; None without an image."""
    selection = root.image(group, "selection.json")
    if not (selection.exists() and root.image(group, "json").exists()):
        return None
    return dict(files.read_json(selection))


def _better(root: DataRoot, selection: dict[str, Any], choice: Choice, settings: Settings) -> bool:
    """Whether a choice is to take the place of the selection that an image was made with."""
    if [one.path for one in choice.sets] == selection["sets"]:
        return False
    old = Standing.of_selection(selection)
    worth = choice.standing.worth_remaking(old, settings.calibration.upgrade_min_hours)
    return (worth or any(_found_bad(root, name, settings) for name in selection["sets"])) and _can_be_remade(
        root, selection["group"]
    )


def _can_be_remade(root: DataRoot, group: str) -> bool:
    """Whether the group's Measurement Set is there or can be made."""
    return root.ms(group).exists() or grouping.raw_present(root, grouping.load(root.manifest(group)))


def _found_bad(root: DataRoot, name: str, settings: Settings) -> bool:
    """Whether a set that was used, solved again, has failed; one that is gone has not."""
    path = root.root / name
    return path.exists() and not CalibrationSet.read(path, settings).passed
