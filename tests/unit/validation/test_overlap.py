"""The same sources in overlapping images: a wrong beam and a wrong factor are seen, without a catalogue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import source_lists
from source_lists import Pointing

from contimg.core.files import read_json
from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.telescope import beam
from contimg.validation import overlap, references
from contimg.validation.gates import Check, Gate, Reason

POINTING = Pointing("20260112T080200", 128.7, 54.57, 6)
SKY = source_lists.sky(POINTING, 500)
RIGHT, NARROW = beam.of(Beam()), beam.of(Beam(fwhm_deg=2.72))


def compared(folder: Path, **options: object) -> overlap.Overlap:
    root = DataRoot(folder)
    seen = options.pop("seen", RIGHT)
    sources = options.pop("sky", SKY)
    names = source_lists.write(root, POINTING, sources, seen, RIGHT, **options)  # type: ignore[arg-type]
    lists = [(root.image(name, references.SUFFIX), read_json(root.image(name, "json"))) for name in names]
    return overlap.compare(overlap.read_all(lists))


def test_the_right_beam_agrees_with_itself(tmp_path: Path) -> None:
    made = compared(tmp_path)
    assert made.sources > 50
    assert made.slope == pytest.approx(0, abs=4 * made.slope_error)
    assert made.slope_error < 0.01
    assert all(abs(factor) < 4 * error for factor, error in made.factors.values())
    assert np.exp(made.log_ratio) == pytest.approx(1, abs=0.03)


def test_faint_sources_make_no_slope(tmp_path: Path) -> None:
    """Noise that lifts a source over 10 σ far from the middle, where it is faint, is no slope (it was +0.0027)."""
    many = source_lists.sky(POINTING, 1500)
    slopes = [compared(tmp_path / str(seed), sky=many, seed=seed) for seed in range(40)]
    errors = np.array([made.slope_error for made in slopes])
    assert abs(np.mean([made.slope for made in slopes])) < 3 * errors.mean() / np.sqrt(len(slopes))
    assert np.sqrt(np.mean([made.slope**2 for made in slopes])) == pytest.approx(errors.mean(), rel=0.5)


def test_a_narrower_beam_is_a_slope(tmp_path: Path) -> None:
    made = compared(tmp_path, seen=NARROW)
    assert made.slope < -0.1
    assert made.slope < -10 * made.slope_error
    # The ratio against the offset is that of the two beams, up to the mean.
    truth = np.log(
        NARROW.radial(np.radians(made.offset_deg), 1.405e9) / RIGHT.radial(np.radians(made.offset_deg), 1.405e9)
    )
    difference = made.log_ratio - truth
    assert (np.abs(difference - difference.mean()) < 4 * made.log_ratio_error).all()
    content = made.to_json()
    assert content["ratio"][0] > content["ratio"][-1] + 0.15


def test_a_factor_of_one_image_is_seen(tmp_path: Path) -> None:
    made = compared(tmp_path, factors=[1, 1, 0.7, 1, 1, 1])
    group = POINTING.names()[2]
    assert np.exp(made.factors[group][0]) == pytest.approx(0.7, rel=0.02)
    worst = Check.of_worst(Reason.OVERLAP, made.off_one)
    assert (worst.value, worst.gate) == (pytest.approx(-0.3, abs=0.02), Gate.SOFT)
    assert made.slope == pytest.approx(0, abs=4 * made.slope_error)


def test_a_variable_source_does_not_count(tmp_path: Path) -> None:
    made = compared(tmp_path)
    root = DataRoot(tmp_path)
    path = root.image(POINTING.names()[1], references.SUFFIX)
    lines = path.read_text().splitlines()
    cells = lines[4].split(",")
    lines[4] = ",".join([*cells[:3], str(float(cells[3]) * 3), *cells[4:]])
    path.write_text("\n".join(lines) + "\n")
    lists = [(root.image(name, references.SUFFIX), read_json(root.image(name, "json"))) for name in POINTING.names()]
    again = overlap.compare(overlap.read_all(lists))
    assert again.slope == pytest.approx(made.slope, abs=0.005)


def test_too_few_sources_say_nothing_and_a_damaged_list_is_left_out(tmp_path: Path) -> None:
    assert np.isnan(overlap.compare([]).slope)
    compared(tmp_path)
    root = DataRoot(tmp_path)
    names = POINTING.names()
    root.image(names[0], references.SUFFIX).write_text("damaged")
    root.image(names[1], references.SUFFIX).unlink()
    lists = [(root.image(name, references.SUFFIX), read_json(root.image(name, "json"))) for name in names]
    assert len(overlap.read_all(lists)) == len(names) - 2
