"""Rule summary: what came out, as HTML and JSON."""

from contimg import files, job
from contimg.paths import DataRoot


def step(task: job.Task) -> None:
    from contimg.science.summary import summarise, summary_html

    content = summarise(DataRoot(task.settings.data_root), task.settings)
    files.write_json(task.output.json, content)
    task.output.html.write_text(summary_html(content))


job.run(snakemake, step)
