"""A data root at different moments of a run, and what the summary says of it."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from attempt_files import attempt

from contimg.core.files import write_json
from contimg.core.paths import DataRoot
from contimg.core.sections import Calibration
from contimg.report.summary import summarise
from contimg.report.summary_pages import notes, summary_html
from contimg.report.summary_rows import newest_groups

IMAGED, WAITING, FAILED, NEW, UNUSABLE = (f"20260112T08{minute:02d}00" for minute in (5, 10, 15, 20, 25))
WINDOW = "20260112T080000"


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path)


def manifest(root: DataRoot, group: str, state: str = "complete", good: int = 16, reason: str | None = None) -> None:
    subbands = {f"{n:02d}": {"state": "good" if n < good else "missing"} for n in range(16)}
    content = {"group": group, "state": state, "reason": reason, "declination_deg": 54.6, "subbands": subbands}
    write_json(root.manifest(group), content)


def whole_run(root: DataRoot) -> None:
    """One group imaged, one without a set, one failed, one new, one unusable; a set and a mosaic."""
    for group in (IMAGED, WAITING, FAILED, NEW):
        manifest(root, group)
    manifest(root, UNUSABLE, "unusable", 9, "9 good subbands, 12 asked for")
    for group in (IMAGED, WAITING, FAILED):
        write_json(root.ms_sidecar(group), {"group": group, "flagged_fraction": 0.04})
    write_json(root.calibrator(IMAGED), {"group": IMAGED, "calibrator": {"name": "J0834+5534"}})
    quality = {
        "passed": True,
        "reasons": [],
        "flagged_solutions": 0.02,
        "snr_median": 300.0,
        "phase_scatter_deg": 3.0,
    }
    description = {"calibrator": "J0834+5534", "reference_antenna": "24", "valid_from": "2026-01-12T05:05:00+00:00"}
    write_json(root.set(IMAGED), {"group": IMAGED, **description, "quality": quality})
    used = f"calibration/2026-01-12/{IMAGED}/set.json"
    chosen = {"set": used, "sets": [used], "verdict": "nearest", "age_hours": 4.25}
    warning = "no active set; <nearest> used"
    write_json(root.image(IMAGED, "selection.json"), {"group": IMAGED, **chosen, "warning": warning})
    worth = {"quality": "degraded", "reasons": ["noise 2.4 times thermal & more"], "noise_jy": 4.8e-4}
    numbers = {"thermal_noise_jy": 2e-4, "dynamic_range": 900.4, "peak_jy": 1.1, "sources": 41}
    numbers["validation"] = {"gate": "soft", "matches": 38}
    write_json(root.image(IMAGED, "json"), {"group": IMAGED, **chosen, **worth, **numbers})
    for rule, seconds in (("convert", 20.0), ("image", 70.0)):
        attempt(root, IMAGED, rule, 1, outcome="ok", duration_s=seconds)
    lacking = {"error_class": "missing_calibration", "message": "no set within 6 h"}
    attempt(root, WAITING, "select", 1, outcome="failed", duration_s=1.0, **lacking)
    attempt(root, FAILED, "image", 1, outcome="ok", duration_s=60.0)
    attempt(
        root, FAILED, "image", 2, outcome="failed", duration_s=2.0, error_class="died", message="killed by SIGKILL"
    )
    mosaic = {
        "groups": [IMAGED],
        "missing": [WAITING],
        "verdict": "nearest",
        "age_hours": 4.25,
        "quality": "degraded",
    }
    write_json(root.mosaic(WINDOW, "json"), {**mosaic, "reasons": [], "noise_jy": 4e-4, "area_deg2": 12.1})
    attempt(root, WINDOW, "mosaic", 1, outcome="ok", duration_s=11.0)


def test_a_row_says_what_became_of_each_group(root: DataRoot) -> None:
    whole_run(root)
    summary = summarise(root, Calibration())
    rows = {row["group"]: row for row in summary["groups"]}
    assert list(rows) == [IMAGED, WAITING, FAILED, NEW, UNUSABLE]
    assert {name: row["status"] for name, row in rows.items()} == {
        IMAGED: "imaged",
        WAITING: "waiting",
        FAILED: "failed",
        NEW: "waiting",
        UNUSABLE: "unusable",
    }
    assert summary["counts"] == {"imaged": 1, "waiting": 2, "failed": 1, "unusable": 1}
    imaged = rows[IMAGED]
    assert (imaged["set"], imaged["calibrator"], imaged["verdict"]) == (IMAGED, "J0834+5534", "nearest")
    assert imaged["noise_over_thermal"] == pytest.approx(2.4)
    assert imaged["durations_s"] == {"convert": 20.0, "image": 70.0}
    assert "no set within 6 h" in rows[WAITING]["reason"]
    assert rows[FAILED]["reason"] == "image failed: killed by SIGKILL (attempt 2)"
    assert rows[NEW]["reason"] == "to be converted"
    assert (rows[UNUSABLE]["good_subbands"], rows[UNUSABLE]["reason"]) == (9, "9 good subbands, 12 asked for")


def test_the_share_of_the_observations_with_a_set_is_told(root: DataRoot) -> None:
    whole_run(root)
    summary = summarise(root, Calibration())
    usable = sum(row["state"] in ("complete", "incomplete") for row in summary["groups"])
    assert summary["calibration"]["observations"] == usable
    assert f"of {usable} observations" in notes(summary)[1]
    assert "goal of 95% is" in summary_html(summary)


def test_sets_mosaics_and_stages(root: DataRoot) -> None:
    whole_run(root)
    summary = summarise(root, Calibration())
    (row,) = summary["sets"]
    assert (row["set"], row["passed"], row["used_by"]) == (IMAGED, True, 1)
    (row,) = summary["mosaics"]
    assert (row["window"], row["images"], row["missing"]) == (WINDOW, 1, [WAITING])
    stages = {row["stage"]: row for row in summary["stages"]}
    assert list(stages) == ["convert", "select", "image", "mosaic"]
    assert (stages["image"]["ok"], stages["image"]["failed"], stages["image"]["median_s"]) == (1, 1, 70.0)


def test_a_set_of_another_day_is_listed_when_it_is_used(root: DataRoot) -> None:
    early, late = "20260112T002000", "20260111T230000"
    manifest(root, early)
    used = f"calibration/2026-01-11/{late}/set.json"
    write_json(root.image(early, "selection.json"), {"set": used, "sets": [used]})
    write_json(root.set(late), {"group": late})
    assert [row["set"] for row in summarise(root, Calibration())["sets"]] == [late]


def test_settings_limit_the_groups(root: DataRoot, tmp_path: Path) -> None:
    whole_run(root)
    summary = summarise(root, Calibration(), [NEW])
    assert [row["group"] for row in summary["groups"]] == [NEW]


def test_only_the_newest_groups_are_shown(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contimg.report.summary._MOST_GROUPS", 2)
    whole_run(root)
    summary = summarise(root, Calibration())
    assert [row["group"] for row in summary["groups"]] == [NEW, UNUSABLE]
    assert "3 older groups are not shown." in notes(summary)


def test_it_works_whatever_is_missing_or_broken(root: DataRoot) -> None:
    whole_run(root)
    present = sorted(path for path in root.root.rglob("*.json"))
    for path in present:
        content = path.read_bytes()
        path.unlink()
        assert summary_html(summarise(root, Calibration()))
        path.write_text("{ not whole")
        summary = summarise(root, Calibration())
        assert f"Not readable: {path.relative_to(root.root)}" in notes(summary)
        path.write_bytes(content)
    for path in present:
        path.unlink()
    empty = summarise(root, Calibration())
    assert empty["groups"] == []
    assert notes(empty) == ["No groups yet."]


class _Page(HTMLParser):
    """The tags that are open at the end, and the text of the cells."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.cells: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "td":
            self.cells.append(data)


def test_the_page_is_whole_and_escaped(root: DataRoot) -> None:
    whole_run(root)
    html = summary_html(summarise(root, Calibration()))
    page = _Page()
    page.feed(html)
    assert page.open == []
    assert "no active set; <nearest> used; noise 2.4 times thermal & more" in page.cells
    assert "<nearest>" not in html
    assert "0.48" in page.cells
    assert "http" not in html  # nothing is fetched
    assert "5 groups: 1 failed, 1 imaged, 1 unusable, 2 waiting" in html
    assert "soft, 38 matches" in page.cells


def test_of_the_images_only_the_newest_days_are_listed(tmp_path: Path) -> None:
    root = DataRoot(tmp_path)
    for day in (10, 11, 12):
        for hour in (8, 9):
            write_json(root.image(f"202601{day}T{hour:02}0000", "json"), {})
    assert newest_groups(root, (), 2) == (["20260112T080000", "20260112T090000"], 0)
    assert newest_groups(root, (), 3)[0] == ["20260111T090000", "20260112T080000", "20260112T090000"]
