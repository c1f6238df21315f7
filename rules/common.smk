"""What the rules share: the settings, the groups, and which products are due."""

import sys
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.io import IOFile
from snakemake.logging import logger

from contimg.core import config as configuration
from contimg.core import files
from contimg.core.errors import ConfigError, ContimgError
from contimg.execute import lease
from contimg.job.job import last_attempt, set_back
from contimg.storage.archive import is_removed
from contimg.core.paths import (
    DATE_PATTERN,
    GROUP_PATTERN,
    DataRoot,
    group_of,
    group_start,
    window_of,
)
from contimg.ingest import groups as grouping
from contimg.clean import imager
from contimg.sets import reimaging
from contimg.sets.registry import Registry


wildcard_constraints:
    group=GROUP_PATTERN,
    window=GROUP_PATTERN,
    date=DATE_PATTERN,


# A job takes its part of the whole, so that the settings say how many run at once; the profile names the whole.
SHARE = 1000
# A report shows what there is: nothing is due for it, nothing is waited for.
REPORTING = any(word.split("=")[0] == "--report" for word in sys.argv)

try:
    settings = configuration.validated(config)
    # What the jobs get: they run in the data root, where a relative path would mean another place.
    config |= settings.model_dump(mode="json", exclude={"alerts"})
    root = DataRoot(settings.data_root)
    imager.refuse_if_missing(settings.imaging.imager)
    if settings.scan_incoming:
        if not root.incoming.is_dir():
            raise ConfigError(
                f"data_root: {root.incoming} is not a folder; it must hold the raw files"
            )
        for path in (*settings.calibration.catalogues, settings.sky_catalogue.path):
            if path and not path.is_file():
                raise ConfigError(f"{path}: there is no such catalogue")
        groups_now = grouping.scan(root, settings, datetime.now(UTC)).groups
    else:
        groups_now = grouping.loaded(root, settings.groups)
    found = {group.name: group for group in groups_now}
except ContimgError as error:
    raise WorkflowError(str(error)) from None


def share_data_root():
    """Keep runners out while this run works."""
    try:
        lease.share(root)
    except ContimgError as error:
        raise WorkflowError(str(error)) from None


reach = timedelta(
    hours=(
        settings.calibration.nearest_within_hours
        if settings.calibration.auto_fallback
        else settings.calibration.validity_hours
    )
)
told = set()
awaited = set()
# Said of every output of a job that fails at its first try: `update` had nothing to put back.
logger.addFilter(lambda record: not str(record.msg).startswith("Cannot restore"))


def tell(group, why):
    """Say once that a group waits, and why."""
    if workflow.is_main_process and (group, why) not in told:
        told.add((group, why))
        logger.warning(f"{group} waits: {why}")


def relative(path):
    """A path as the rules name it."""
    return str(path.relative_to(root.root))


@cache
def usable_groups():
    """Groups that can be processed now: enough good subbands, and what to make them from is there."""
    return list(usable())


def usable():
    for name, group in found.items():
        if group.state not in ("complete", "incomplete"):
            tell(name, group.reason)
        elif is_removed(root, "image", name):
            continue  # its image was archived: it has ended
        elif (
            root.image(name, "json").exists()
            or root.ms(name).exists()
            or grouping.raw_present(root, group)
        ):
            yield name
        else:
            tell(name, "its raw files are gone and nothing was made from them")


def detect_now(group):
    """Look for a group's calibrator here: of a run `--until` a rule, Snakemake drops whatever waits for a checkpoint."""
    from contimg.calibrators.detect import detect  # takes a second

    try:
        files.write_json(root.calibrator(group), detect(root.manifest(group), settings))
    except ContimgError as error:
        raise WorkflowError(str(error)) from None


def calibrator_of(group):
    """The calibrator that transits in a group, or None; the checkpoint is asked where nobody has looked yet."""
    path = root.calibrator(group)
    if not path.exists() and REPORTING:
        return None
    if not path.exists() and workflow.dag_settings.until:
        detect_now(group)
    if not path.exists():
        path = Path(
            checkpoints.detect.get(
                group=group, date=path.parent.parent.name
            ).output.calibrator
        )
    return files.read_json(path)["calibrator"]


def sets_to_come(group):
    """Groups near a target that will give a set in this run: a calibrator transits in them, nobody has solved it."""
    start = group_start(group)
    near = (name for name in usable_groups() if abs(group_start(name) - start) <= reach)
    to_come = [
        name for name in near if not root.set(name).exists() and calibrator_of(name)
    ]
    awaited.update(to_come)
    return to_come


def sets_made():
    """Those of the awaited sets that have come."""
    return frozenset(name for name in awaited if root.set(name).exists())


@lru_cache(1)
def registry(made):
    """The sets on disk, read again whenever one has come."""
    return Registry(root, settings.calibration)


def sets_of(wildcards):
    """The sets that calibrate a target: all that are to come are waited for, but an image that is there waits for none.

    It is made again in the next run. (Snakemake makes anew whatever has waited for a checkpoint, changed or not.)
    """
    if not imaged(wildcards.group):
        for name in sets_to_come(wildcards.group):
            checkpoints.solve.get(group=name, date=root.set(name).parent.parent.name)
    sets = reimaging.serving(registry(sets_made()), wildcards.group)
    return [as_input(path) for path in sets]


def as_input(path):
    """A set that a target was calibrated with; one that has turned bad since, with nothing to replace it, is no news."""
    bad = path.exists() and not registry(sets_made()).read(path).passed
    return ancient(relative(path)) if bad else relative(path)


def keep_due(rule, unit, products):
    """Tidy up after a job that was to replace a product (its outputs are marked `update`) and failed or was killed.

    Snakemake, having put the old product back, takes it for new: it is made due again. Killed, it leaves its copies of
    folders behind and fails over them the next time.
    """
    attempts = root.log(unit, rule).parent
    last = last_attempt(attempts, rule)
    if not workflow.is_main_process or (last and last.lives):
        return
    for path in products:
        files.remove(root.root / ".snakemake" / "backups" / relative(path))
    if set_back(attempts, rule, products[-1], products):
        for path in products:
            workflow.persistence.cleanup_metadata(IOFile(relative(path)))


def to_solve(wildcards):
    """The Measurement Set that a set is solved on."""
    names = ("delay.cal", "bandpass.cal", "gain.cal", "calibration.png", "set.json")
    folder = root.calibration(wildcards.group)
    keep_due("solve", wildcards.group, [folder / name for name in names])
    return relative(root.ms(wildcards.group))


@cache
def imaged(group):
    """Whether there was an image of a group when this run first asked for it."""
    products = ("image.fits", "noise.fits", "pb.fits", "png", "json")
    keep_due("image", group, [root.image(group, name) for name in products])
    return root.image(group, "json").exists()


@cache
def may_be_calibrated(group, made):
    """Whether there is a set that may serve a group, or will be."""
    return bool(
        imaged(group) or sets_to_come(group) or reimaging.serving(registry(made), group)
    )


@cache
def groups_due():
    """Usable groups without an image, in order of time."""
    return sorted(
        name for name in usable_groups() if not root.image(name, "json").exists()
    )


def shared_cores(wildcards):
    """Cores of a job: when several groups are due, two jobs side by side are done sooner than one by one on both.

    Those that are left over at the end share all the cores.
    """
    due, group = groups_due(), wildcards.group
    # A cluster, whose jobs do not share cores, has no number of them.
    cores = workflow.resource_settings.cores or settings.limits.threads * len(due)
    left_over = due[len(due) - len(due) % max(cores, 1) :]
    if group in due and group not in left_over:
        return 1
    return max(1, min(settings.limits.threads, cores // max(len(left_over), 1)))


def due(paths):
    """Products to ask for, as the rules name them; for a report, those that there are."""
    return [relative(path) for path in paths if path.exists() or not REPORTING]


def conversions_due(_):
    """Of a run `--until convert`, those of groups that wait for a calibration set, too."""
    if "convert" not in workflow.dag_settings.until:
        return []
    return due(root.ms(group) for group in groups_due())


def detections_due(_):
    return due(root.calibrator(group) for group in usable_groups())


def sets_due(_):
    return due(root.set(group) for group in usable_groups() if calibrator_of(group))


def image_groups():
    """Groups whose image can be made; the others are told to wait."""
    for group in usable_groups():
        if REPORTING:
            if root.image(group, "json").exists():
                yield group
        elif may_be_calibrated(group, sets_made()):
            yield group
        else:
            tell(group, "no usable calibration set; it is imaged once there is one")


def images_due(_):
    return due(root.image(group) for group in image_groups())


def mosaic_groups(window):
    """Groups of a window: those whose image can be made, and those whose image is there."""
    products = ("image.fits", "weight.fits", "coverage.fits", "png", "json")
    keep_due("mosaic", window, [root.mosaic(window, name) for name in products])
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
    minutes = settings.mosaic.window_minutes
    windows = {window_of(group, minutes) for group in image_groups()}
    # A mosaic whose images are leaving for the archive is not made again from those that are still there.
    leaving = {
        window_of(name, minutes) for name in found if is_removed(root, "image", name)
    }
    return due(root.mosaic(window) for window in sorted(windows - leaving))


def summary_due(_):
    return due([root.reports / "summary.html"])


def raw_mb(group):
    """Size (MB) of a group's raw files, which is about that of its Measurement Set."""
    return found[group].raw_bytes // 1_000_000 if group in found else 2400
