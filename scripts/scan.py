"""Rule scan: raw files → the manifests of their groups."""

from contimg.job.job import Job, run


def step(job: Job) -> None:
    from datetime import UTC, datetime

    from contimg.core.paths import DataRoot
    from contimg.ingest.groups import scan

    root = DataRoot(job.settings.data_root)
    for earlier in root.state.glob("scan-*.done"):
        earlier.unlink()
    scan(root, job.settings.ingest, datetime.now(UTC), job.settings.groups)


run(snakemake, step)
