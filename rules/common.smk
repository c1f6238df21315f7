"""What the rules share: the settings, the groups, and which products are due."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from contimg import config as configuration
from contimg.errors import ContimgError
from contimg.files import read_json
from contimg.paths import (
    DATE_PATTERN,
    GROUP_PATTERN,
    DataRoot,
    group_of,
    group_start,
    window_of,
)
from contimg.science import groups as grouping


wildcard_constraints:
    group=GROUP_PATTERN,
    window=GROUP_PATTERN,
    date=DATE_PATTERN,


# A job takes its part of the whole, so that the settings say how many run at once; the profile names the whole.
SHARE = 1000

try:
    settings = configuration.validated(config)
    root = DataRoot(settings.data_root)
    if settings.scan_incoming:
        groups_now = grouping.scan(root, settings, datetime.now(UTC))
    else:
        groups_now = grouping.loaded(root, settings.groups)
    found = {group.name: group for group in groups_now}
except ContimgError as error:
    raise WorkflowError(str(error)) from None

reach = timedelta(hours=settings.calibration.nearest_within_hours)
told = set()


def tell(group, why):
    """Say once that a group waits, and why."""
    if workflow.is_main_process and (group, why) not in told:
        told.add((group, why))
        logger.warning(f"{group} waits: {why}")


def relative(path):
    """A path as the rules name it."""
    return str(path.relative_to(root.root))


def usable_groups():
    """Groups that can be processed now: enough good subbands, and what to make them from is there."""
    for name, group in found.items():
        if group.state not in ("complete", "incomplete"):
            tell(name, group.reason)
        elif (
            root.image(name, "json").exists()
            or root.ms(name).exists()
            or grouping.raw_present(root, group)
        ):
            yield name
        else:
            tell(name, "its raw files are gone and nothing was made from them")


def calibrator_of(group):
    """The calibrator that transits in a group, or None; the checkpoint is asked where nobody has looked yet."""
    path = root.calibrator(group)
    if not path.exists():
        path = Path(
            checkpoints.detect.get(
                group=group, date=path.parent.parent.name
            ).output.calibrator
        )
    return read_json(path)["calibrator"]


def sets_near(group):
    """Sets that the group may use: those on disk and those that its neighbours will give, in order of time."""
    start = group_start(group)
    near = {name for name in usable_groups() if abs(group_start(name) - start) <= reach}
    sets = {root.set(name) for name in near if calibrator_of(name)}
    for day in {
        (start + step).strftime("%Y-%m-%d") for step in (-reach, timedelta(0), reach)
    }:
        for path in (root.root / "calibration" / day).glob("*/set.json"):
            if abs(group_start(group_of(path)) - start) <= reach:
                sets.add(path)
    return sorted(sets)


def may_serve(path):
    """Whether a set passed its gate, or is still to be made."""
    return not path.exists() or read_json(path)["quality"]["passed"]


def detections_due(_):
    return [relative(root.calibrator(group)) for group in usable_groups()]


def image_groups():
    """Groups whose image can be made; the others are told to wait."""
    for group in usable_groups():
        if any(may_serve(path) for path in sets_near(group)):
            yield group
        else:
            tell(
                group,
                f"no usable calibration set within {reach.total_seconds() / 3600:g} h of it",
            )


def images_due(_):
    return [relative(root.image(group)) for group in image_groups()]


def mosaic_groups(window):
    """Groups of a window: those whose image can be made, and those whose image is there."""
    folder = root.mosaic(window).parent.name
    there = {
        group_of(path) for path in (root.root / "images" / folder).glob("*.image.fits")
    }
    return sorted(
        group
        for group in {*image_groups(), *there}
        if window_of(group, settings.mosaic.window_minutes) == window
    )


def mosaics_due(_):
    windows = {
        window_of(group, settings.mosaic.window_minutes) for group in image_groups()
    }
    return [relative(root.mosaic(window)) for window in sorted(windows)]


def raw_mb(group):
    """Size (MB) of a group's raw files, which is about that of its Measurement Set."""
    return found[group].raw_bytes // 1_000_000 if group in found else 2400
