"""The antennas' history from the files of groups, and what alarms look at."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contimg.alerts import conditions
from contimg.antennas import history, positions
from contimg.cli import main
from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_id, group_start
from contimg.core.sections import Thresholds
from contimg.figures.antennas_png import antennas_png

FIRST = group_start("20260125T000000")
ANTENNAS = 20
NOW = FIRST + timedelta(hours=2)


def describe(root: DataRoot, number: int, **changes: Any) -> dict[str, Any]:
    """Write the description of a group, some minutes after the one before."""
    name = group_id(FIRST + timedelta(minutes=5.2 * number))
    both = [[1.0, 1.1]] * ANTENNAS
    content = {
        "group": name,
        "sets": ["calibration/2026-01-25/20260125T000000/set.json"],
        "names": [str(number + 1) for number in range(ANTENNAS)],
        "flagged": [[0.05, 0.05]] * ANTENNAS,
        "silent_s": [0.0] * ANTENNAS,
        "state": ["good"] * ANTENNAS,
        "reasons": [[]] * ANTENNAS,
        "phase_centre_deg": [128.7, 55.6],
        **dict.fromkeys(("sefd_jy", "coherence", "gain"), both),
        **changes,
    }
    write_json(root.path("antennas", name), content)
    return content


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    root = DataRoot(tmp_path)
    write_json(
        root.set("20260125T000000"), {"reference_antenna": "7", "quality": {"passed": True, "flagged_solutions": 0.1}}
    )
    for number in range(12):
        describe(root, number)
    return root


def opened(root: DataRoot) -> set[str]:
    """Conditions that open an alert."""
    measured = history.alarms(root, NOW)
    return {one.condition for one in conditions.judge(measured, Thresholds(), [], 0.0, repeat_s=1.0, calm_s=1.0)}


def test_a_usual_group_raises_nothing(root: DataRoot) -> None:
    assert history.alarms(root, NOW)["solve_yield_percent"] == {"20260125T000000": pytest.approx(90)}
    assert opened(root) == set()
    assert history.alarms(root, NOW + timedelta(days=2)) == {}


@pytest.mark.parametrize(
    ("changes", "condition"),
    [
        ({"flagged": [[0.0, 0.0]] * ANTENNAS}, "flagged_none"),
        ({"flagged": [[0.0, 0.0]] * (ANTENNAS - 1) + [[1.0, 1.0]]}, "flagged_none"),
        ({"flagged": [[0.4, 0.4]] * ANTENNAS}, "flagged_leap_percent"),
        ({"flagged": [[0.05, 0.05]] * 14 + [[0.3, 0.3]] * 6}, "antennas_flagged_alike"),
        ({"silent_s": [0.0] * 6 + [25.8] + [0.0] * 13}, "reference_silent_s"),
    ],
)
def test_what_is_wrong_with_the_newest_group_is_told(root: DataRoot, changes: dict[str, Any], condition: str) -> None:
    describe(root, 12, **changes)
    assert opened(root) == {condition}


def test_few_good_solutions_of_a_set_in_use_are_told(root: DataRoot) -> None:
    quality = {"passed": True, "flagged_solutions": 0.35}
    write_json(root.set("20260125T000000"), {"reference_antenna": "7", "quality": quality})
    assert opened(root) == {"solve_yield_percent"}


def test_table_and_picture(root: DataRoot, tmp_path: Path) -> None:
    state = ["good"] * (ANTENNAS - 1) + ["failing"]
    describe(root, 12, state=state, reasons=[[]] * (ANTENNAS - 1) + [["X: 70% flagged"]])
    root.path("antennas", group_id(FIRST + timedelta(minutes=1))).write_text("broken")
    described = history.groups(root, NOW, 24)
    assert len(described) == 13
    rows = history.table(described)
    assert [row["name"] for row in rows] == [str(number + 1) for number in range(ANTENNAS)]
    assert (rows[-1]["state"], rows[-1]["reasons"]) == ("failing", ["X: 70% flagged"])
    assert rows[-1]["good"] == pytest.approx(12 / 13, abs=1e-3)
    assert rows[0]["sefd_jy"] == [1.0, 1.1]
    assert rows[0]["unsteady_deg"] == [None, None]
    antennas_png(described, tmp_path / "antennas.png")
    assert (tmp_path / "antennas.png").stat().st_size > 10_000


def test_lines_have_the_stability_of_phase_and_delay(root: DataRoot, capsys: pytest.CaptureFixture[str]) -> None:
    values = {"unsteady_deg": [[0.5, 1.25]] * ANTENNAS, "delay_ns": [[0.3, -2.0]] * ANTENNAS}
    describe(root, 12, **values)
    assert main(["antennas", "--data-root", str(root.root), "--until", f"{NOW:%Y-%m-%dT%H:%M}"]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert "phase scatter   0.5/1.2°" in line
    assert "delay +0.30/-2.00 ns" in line


def test_positions_are_means_over_groups_against_the_median_antenna() -> None:
    """An offset common to all, here of 3 mm to the east, cannot be measured."""
    rng = np.random.default_rng(1)
    true = np.array([[23.0, -4.0], *[[3.0, 0.0]] * 6])
    described = [
        {
            "phase_centre_deg": [number, 16.27],
            "names": [str(name) for name in range(3, 10)],
            "offset_mm": (true + rng.normal(0, 5, true.shape)).tolist(),
            "offset_error_mm": np.full(true.shape, 5.0).tolist(),
        }
        for number in range(280)
    ]
    wrong, *right = positions.solve(described)
    assert wrong["name"] == "3"
    assert (wrong["east_mm"], wrong["north_mm"]) == (pytest.approx(20, abs=1), pytest.approx(-4, abs=1))
    assert wrong["east_error_mm"] == pytest.approx(5 / np.sqrt(280), rel=0.2)
    assert wrong["significant"]
    assert not any(one["significant"] for one in right)
