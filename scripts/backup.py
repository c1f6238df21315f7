"""Rule backup: a snapshot, made, read back and sent."""

from contimg.job import job


def step(task: job.Task) -> None:
    from datetime import UTC, datetime

    from contimg.core.errors import StoreError
    from contimg.core.paths import DataRoot
    from contimg.storage import backup
    from contimg.storage.lock import only_one

    root = DataRoot(task.settings.data_root)
    with only_one(root, "backup"):
        complete = backup.run(root, task.settings, datetime.now(UTC), print)
    if not complete:
        raise StoreError(f"the backup is not complete; {root.state / 'backup.json'} says why")


job.run(snakemake, step)
