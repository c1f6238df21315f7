"""Rule scan: raw files → the manifests of their groups."""

from contimg.job import job


def step(task: job.Task) -> None:
    from datetime import UTC, datetime

    from contimg.core.paths import DataRoot
    from contimg.ingest.groups import scan

    root = DataRoot(task.settings.data_root)
    for earlier in root.state.glob("scan-*.done"):
        earlier.unlink()
    scan(root, task.settings.ingest, datetime.now(UTC), task.settings.groups)


job.run(snakemake, step)
