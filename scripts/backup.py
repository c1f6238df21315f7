"""Rule backup: a snapshot, made, read back and sent."""

from contimg.job.job import Job, run


def step(job: Job) -> None:
    from datetime import UTC, datetime

    from contimg.core.errors import StoreError
    from contimg.core.paths import DataRoot
    from contimg.storage import backup
    from contimg.storage.lock import exclusive

    root = DataRoot(job.settings.data_root)
    with exclusive(root, "backup"):
        complete = backup.run(root, job.settings, datetime.now(UTC), print)
    if not complete:
        raise StoreError(f"the backup is not complete; {root.state / 'backup.json'} says why")


run(snakemake, step)
