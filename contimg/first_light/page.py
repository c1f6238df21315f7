"""Page of the findings: HTML, and text for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from contimg.core import files
from contimg.first_light.findings import Assessment, Finding


def text(name: str, findings: Sequence[Finding]) -> str:
    """Findings as lines of text, the good ones short."""
    lines = [f"{name} and its group: {summary(findings)}"]
    for finding in findings:
        lines.append(f"{finding.verdict:8} {finding.line:16} {finding.found}")
        if finding.verdict is not Assessment.GOOD:
            lines.append(f"{'':25} expected: {finding.expected}")
        if finding.to_set:
            lines.append(f"{'':25} to set: {finding.to_set}")
    return "\n".join(lines)


def summary(findings: Sequence[Finding]) -> str:
    """Number of findings with each verdict, in words."""
    counts = ((verdict, sum(finding.verdict is verdict for finding in findings)) for verdict in Assessment)
    return ", ".join(f"{count} {verdict}" for verdict, count in counts if count)


def write(path: Path, name: str, findings: Sequence[Finding]) -> None:
    """Write the findings as HTML; raises `OSError` if it cannot be written."""
    environment = Environment(
        loader=PackageLoader("contimg.first_light"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    page = environment.get_template("findings.html").render(name=name, summary=summary(findings), findings=findings)
    with files.atomic_write(path) as part:
        part.write_text(page, "utf-8")
