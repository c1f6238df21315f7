"""Indicators of silence: nothing arrives, nothing is taken, or nothing comes out."""

from __future__ import annotations

from pathlib import Path

import pytest
from bookkeeping import NOW, Played

from contimg.alerts.indicators import measure
from contimg.arrivals.arrivals import Scanner
from contimg.core.paths import DataRoot
from contimg.ingest.report import ScanReport
from contimg.ledger.queries import LAST_ARRIVAL


def silence(played: Played, hours: float) -> tuple[float | None, float]:
    """Hours without arrivals and without products, so many hours after the beginning."""
    measured = measure(
        played.root, played.ledger, played.settings.backup, played.settings.staging, NOW + 3600 * hours
    )
    return measured.get("no_arrivals", {}).get(""), measured["no_products"][""]


def test_hours_since_the_last_raw_files_came(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert silence(played, 1)[0] is None  # no runner has ever been here
    played.ledger.set_note(LAST_ARRIVAL, NOW - 3600)
    assert silence(played, 2.5)[0] == 3.5
    played.arrive(0)
    assert silence(played, 2.5)[0] == 2.5


def test_hours_for_which_groups_wait_while_no_image_is_made(tmp_path: Path) -> None:
    played = Played(tmp_path)
    assert silence(played, 9)[1] == 0.0  # nothing waits
    name = played.arrive(0)
    waiting = silence(played, 9)[1]
    assert waiting > 9
    for stage in ("detect", "convert", "image"):
        played.done(stage, name)
    assert silence(played, 9)[1] == 0.0


@pytest.mark.parametrize("hours", [-3.0, 5.0, 5e5])
def test_a_clock_that_is_set_is_no_silence(tmp_path: Path, hours: float) -> None:
    """As at a host that boots without a battery, in 1970: nothing had come for 57 years, it said."""
    played = Played(tmp_path)
    played.arrive(0)
    before = silence(played, 1)
    played.transitions.clock_stepped(3600 * hours, NOW + 3600 * hours)
    assert silence(played, 1 + hours) == pytest.approx(before)


@pytest.mark.parametrize("noise", [b"", b"{", b"[]", b"7", b"\xff", b'{"untaken": 3}'])
def test_a_report_of_arrivals_that_makes_no_sense_is_none(tmp_path: Path, noise: bytes) -> None:
    root = DataRoot(tmp_path)
    root.state.mkdir()
    (root.state / "arrivals.json").write_bytes(noise)
    assert ScanReport.read(root) == ScanReport()


def test_what_is_not_taken_is_one_alert_with_a_number_and_an_example(tmp_path: Path) -> None:
    played = Played(tmp_path / "root")
    for number in range(16):
        (played.root.incoming / f"2026-01-12T08_00_14_sb{number:02d}.hdf5").touch()
    Scanner(played.root, lambda *_: []).look(played.settings.ingest, NOW, [])
    found = measure(played.root, played.ledger, played.settings.backup, played.settings.staging, NOW)
    assert found["files_untaken"] == {"2026-01-12T08_00_14_sb00.hdf5": 16.0}
