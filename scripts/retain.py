"""Rule retain: archiving and removal of old products."""

from contimg.job import job


def step(task: job.Task) -> None:
    from datetime import UTC, datetime

    from contimg.core.errors import StoreError
    from contimg.core.paths import DataRoot
    from contimg.storage import retention
    from contimg.storage.lock import only_one
    from contimg.storage.retention_candidates import RetentionSettings

    root = DataRoot(task.settings.data_root)
    with only_one(root, "retention"):
        failures = retention.run(root, task.settings.part(RetentionSettings), datetime.now(UTC), print)
    if failures:
        raise StoreError(f"{failures} things could not be archived and removed; they stay, see {task.log}")


job.run(snakemake, step)
