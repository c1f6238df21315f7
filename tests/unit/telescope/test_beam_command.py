"""`contimg beam show`: what was made with another beam is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from contimg.cli import main
from contimg.core.files import write_json

NAME = "airy 3.2 deg at 1400 MHz"


def test_products_of_another_beam_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path, beam in (
        ("images/2026-01-12/20260112T084512.json", "gaussian 3 deg at 1400 MHz"),
        ("images/2026-01-12/20260112T085024.json", NAME),
        ("images/2026-01-12/20260112T085533.json", None),
        ("calibration/2026-01-12/20260112T084512/set.json", "gaussian 3 deg at 1400 MHz"),
        ("mosaics/2026-01-12/20260112T080000.json", f"{NAME}, gaussian 3 deg at 1400 MHz"),
        ("mosaics/2026-01-12/20260112T090000.json", NAME),
    ):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        write_json(tmp_path / path, {"group": "g", **({"primary_beam": beam} if beam else {})})
    calibrated = {"group": "g", "primary_beam": NAME, "calibration_beams": ["gaussian 3 deg at 1400 MHz"]}
    write_json(tmp_path / "images/2026-01-12/20260112T090551.json", calibrated)
    (tmp_path / "images/2026-01-12/20260112T090042.json").write_text("{")
    assert main(["beam", "show", "--data-root", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines() == [
        f"{NAME}: at 1405 MHz 3.19° wide, main lobe to 3.78°",
        "calibration/2026-01-12/20260112T084512/set.json",
        "images/2026-01-12/20260112T084512.json",
        "images/2026-01-12/20260112T090551.json",
        "mosaics/2026-01-12/20260112T080000.json",
        "1 sets, 2 images and 1 mosaics were made with another beam",
        "contimg reprocess --from 20260112T084512 --until 20260112T084513 --stage solve makes the sets again",
        "contimg reprocess --from 20260112T084512 --until 20260112T090552 makes the images and their mosaics again, "
        "after the sets",
    ]
    assert "20260112T090042.json: cannot be read" in said.err
