"""Rule summary: table of groups, sets and mosaics, as HTML and JSON."""

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.job.job import Job, run


def step(job: Job) -> None:
    from contimg.report.summary import summarise
    from contimg.report.summary_pages import summary_html

    content = summarise(DataRoot(job.settings.data_root), job.settings.calibration, job.settings.groups)
    files.write_json(job.output.json, content)
    job.output.html.write_text(summary_html(content), "utf-8")


run(snakemake, step)
