"""Rule backup: a snapshot, made and sent."""

from contimg import job


def step(task: job.Task) -> None:
    from datetime import UTC, datetime

    from contimg.errors import StoreError
    from contimg.ops import backup
    from contimg.ops.lock import only_one
    from contimg.paths import DataRoot

    root = DataRoot(task.settings.data_root)
    with only_one(root, "backup"):
        complete = backup.run(root, task.settings, datetime.now(UTC), print)
    if not complete:
        raise StoreError(f"the backup is not complete; {root.state / 'backup.json'} says why")


job.run(snakemake, step)
