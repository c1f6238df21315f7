"""Indicators of silence: nothing arrives, or nothing comes out."""

from __future__ import annotations

from pathlib import Path

from bookkeeping import NOW, Played

from contimg.alerts.indicators import measure
from contimg.ledger.queries import LAST_ARRIVAL


def silence(played: Played, hours: float) -> tuple[float | None, float]:
    """Hours without arrivals and without products, so many hours after the beginning."""
    measured = measure(played.root, played.ledger, played.settings, NOW + 3600 * hours)
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
