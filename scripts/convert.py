"""Rule convert: one group's subbands → one Measurement Set."""

from pathlib import Path

from contimg.core.files import read_json
from contimg.job.job import Job, run


def step(job: Job) -> dict:
    from contimg.convert.convert import ConversionSettings, convert

    return convert(job.input.manifest, job.output.ms, job.settings.part(ConversionSettings), job.threads)


manifest = read_json(Path(snakemake.input.manifest))
raw_bytes = sum(subband["size"] for subband in manifest["subbands"].values() if subband["state"] == "good")
run(snakemake, step, staged={"ms": raw_bytes})
