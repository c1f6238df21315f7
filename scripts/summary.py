"""Rule summary: table of groups, sets and mosaics, as HTML and JSON."""

from contimg.core import files
from contimg.core.paths import DataRoot
from contimg.job import job


def step(task: job.Task) -> None:
    from contimg.report.summary import summarise
    from contimg.report.summary_pages import summary_html

    content = summarise(DataRoot(task.settings.data_root), task.settings.calibration, task.settings.groups)
    files.write_json(task.output.json, content)
    task.output.html.write_text(summary_html(content))


job.run(snakemake, step)
