"""Rule retain: archiving and removal of old products."""

from contimg.job.job import Job, run


def step(job: Job) -> None:
    from datetime import UTC, datetime

    from contimg.core.errors import StoreError
    from contimg.core.paths import DataRoot
    from contimg.storage import retention
    from contimg.storage.lock import exclusive
    from contimg.storage.retention_candidates import RetentionSettings

    root = DataRoot(job.settings.data_root)
    with exclusive(root, "retention"):
        failures = retention.run(root, job.settings.part(RetentionSettings), datetime.now(UTC), print)
    if failures:
        raise StoreError(f"{failures} things could not be archived and removed; they stay, see {job.log}")


run(snakemake, step)
