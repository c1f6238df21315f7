"""Rule retain: what is old enough and no longer needed leaves the disks."""

from contimg import job


def step(task: job.Task) -> None:
    from datetime import UTC, datetime

    from contimg.errors import StoreError
    from contimg.ops import retention
    from contimg.ops.lock import only_one
    from contimg.paths import DataRoot

    root = DataRoot(task.settings.data_root)
    with only_one(root, "retention"):
        failures = retention.run(root, task.settings, datetime.now(UTC), print)
    if failures:
        raise StoreError(f"{failures} things could not be archived and removed; they stay, see {task.log}")


job.run(snakemake, step)
