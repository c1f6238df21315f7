"""Rule convert: one group's subbands → one Measurement Set."""

from contimg.core.files import read_json
from contimg.job import job


def step(task: job.Task) -> dict:
    from contimg.convert.convert import ConversionSettings, convert

    return convert(task.input.manifest, task.output.ms, task.settings.part(ConversionSettings), task.threads)


manifest = read_json(job.Path(snakemake.input.manifest))
raw_bytes = sum(subband["size"] for subband in manifest["subbands"].values() if subband["state"] == "good")
job.run(snakemake, step, staged={"ms": raw_bytes})
