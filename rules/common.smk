"""Shared definitions of the rules: settings, groups, and the products that are due (`contimg.workflow`)."""

from datetime import UTC, datetime
from math import ceil

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from contimg.core.config import without_secrets
from contimg.core.errors import ContimgError
from contimg.core.paths import DATE_PATTERN, GROUP_PATTERN, WINDOW_PATTERN, DataRoot
from contimg.core.products import path as product
from contimg.core.stages import SLURM_MARGIN_MINUTES, STAGES, limit_value
from contimg.execute import lease
from contimg.execute.snakemake import check_outlived
from contimg.schedule.lanes import demand
from contimg.workflow.due import REPORTED, Due
from contimg.workflow.start import groups_of, settings_of
from contimg.workflow.tries import failed_tries


wildcard_constraints:
    group=GROUP_PATTERN,
    window=WINDOW_PATTERN,
    date=DATE_PATTERN,


# Each job takes a share of the whole, so that the settings limit parallel jobs; the profile names the whole.
SHARE = 1000

try:
    settings = settings_of(config)
    config |= without_secrets(settings)  # with absolute paths: jobs run elsewhere
    root = DataRoot(settings.data_root)
    check_outlived(root)
    now = datetime.now(UTC)
    found = groups_of(root, settings, now)
    SCANNED = f"state/scan-{now:%Y%m%dT%H%M%S}.done"  # a new name for each run
except ContimgError as error:
    raise WorkflowError(str(error)) from None

due = Due(root, settings, found.by_name, now)
try:
    all_cores = workflow.cores
except WorkflowError:  # no common cores: the jobs run on a cluster
    all_cores = None
said = set()
for line in found.unsettled:
    logger.warning(line)


def relative(paths):
    """Paths relative to the data root; waiting groups and windows met on the way are logged once."""
    for unit, why in due.waits.items():
        if (unit, why) not in said:
            said.add((unit, why))
            logger.warning(f"{unit} waits: {why}")
    return [str(path.relative_to(root.root)) for path in paths]


def share_data_root():
    """Keep runners out during this run."""
    try:
        lease.exclude_runners(root)
    except ContimgError as error:
        raise WorkflowError(str(error)) from None


def scans():
    """Output of the scan, if there are manifests to write."""
    return [SCANNED] if found.changed or found.emptied or found.reopened else []


def asked(name, units):
    """Input function: a product of each group or window of an attribute of `due`."""
    return lambda _: relative(root.path(name, unit) for unit in getattr(due, units))


def shared_cores(wildcards):
    return due.cores(wildcards.group, all_cores)


def minutes(stage):
    """Slurm's time limit of a job (min); its supervisor keeps the job's own."""
    own = limit_value(settings.limits, STAGES[stage].minutes)
    return ceil(own) + SLURM_MARGIN_MINUTES


def tries(rule):
    """Parameter that makes a product due again after a failed try to replace it."""
    return lambda wildcards: failed_tries(
        root, rule, wildcards.get("group") or wildcards.window
    )


def sets_of(wildcards):
    """Sets that calibrate a target; a set that turned bad without a replacement makes no image due."""
    sets = due.sets(wildcards.group)
    bad = {*relative(path for path in sets if due.turned_bad(path))}
    return [ancient(name) if name in bad else name for name in relative(sets)]


def images_of(product_name):
    """Input function: a product of each image of a window."""
    return lambda wildcards: relative(
        root.path(product_name, group) for group in due.in_mosaic(wildcards.window)
    )


def marked(product_name, unit, path):
    """Existing picture, marked for the report, which thereby shows the products made by now."""
    category, caption = REPORTED.get(product_name, (product_name, None))
    return report(path, caption=caption, category=category, labels={"name": unit})


def pictures():
    return [
        marked(name, unit, *relative([path])) for name, unit, path in due.pictures()
    ]
