"""Pointings of a window: names of its mosaics, whatever the change of declination."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_images import groups

from contimg.core.files import write_json
from contimg.core.paths import DataRoot, group_date, group_of, in_window, window_end
from contimg.mosaic.pointings import obsolete, pointings

WINDOW = "20260112T080000"
NAMES = groups("20260112T080200", 6)


def sidecars(root: Path, *declinations_deg: float | None, failed: tuple[int, ...] = ()) -> list[Path]:
    paths = []
    for number, (group, declination_deg) in enumerate(zip(NAMES, declinations_deg, strict=False)):
        path = DataRoot(root).image(group, "json")
        path.parent.mkdir(parents=True, exist_ok=True)
        gate = "hard" if number in failed else "pass"
        content = {"validation": {"gate": gate, "checks": {"flux_scale": {"gate": gate}}}}
        write_json(path, content if declination_deg is None else content | {"centre": {"dec_deg": declination_deg}})
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("declinations_deg", "expected"),
    [
        ((54.57, 54.58, 54.6), {"": (0, 1, 2)}),
        ((54.57, 54.57, 16.27, 16.27), {"": (0, 1), "-dec+16.3": (2, 3)}),
        ((16.27, 50.5, 16.3, 50.5), {"": (0, 2), "-dec+50.5": (1, 3)}),
        ((54.57, 53.9), {"": (0,), "-dec+53.9": (1,)}),
        ((54.57, 35.0, -2.25, 65.7), {"": (0,), "-dec+35.0": (1,), "-dec-02.2": (2,), "-dec+65.7": (3,)}),
        ((50.0, 50.4, 50.8, 51.2), {"": (0, 1, 2, 3)}),  # never half a degree from one to the next
        ((), {"": ()}),
    ],
)
def test_each_declination_has_a_mosaic(
    tmp_path: Path, declinations_deg: tuple[float, ...], expected: dict[str, tuple[int, ...]]
) -> None:
    found = pointings(WINDOW, reversed(sidecars(tmp_path, *declinations_deg)))
    assert found == {WINDOW + name: [NAMES[n] for n in numbers] for name, numbers in expected.items()}
    assert next(iter(found)) == WINDOW


def test_images_that_give_no_pointing_are_told_of_by_the_first(tmp_path: Path) -> None:
    paths = sidecars(tmp_path, 16.27, 54.57, 54.57, None, 54.57, failed=(0, 4))
    paths[2].write_text("{half")
    assert pointings(WINDOW, paths) == {WINDOW: NAMES[:5]}


@pytest.mark.parametrize("window", [WINDOW, f"{WINDOW}-120m"])
def test_names_lead_back_to_the_window(tmp_path: Path, window: str) -> None:
    _, other = pointings(window, sidecars(tmp_path, 54.57, 16.27))
    root = DataRoot(tmp_path)
    paths = [root.mosaic(other), root.mosaic(other, "json"), root.mosaic(other, "validation.html")]
    assert {group_of(path) for path in paths} == {other}
    assert (group_date(other), window_end(other)) == (group_date(window), window_end(window))
    assert in_window(NAMES[0], other)
    root.mosaic(window).parent.mkdir(parents=True)
    for path in (root.mosaic(window), root.mosaic(f"{window}-dec+54.6"), *paths):
        path.touch()
    assert obsolete(root.mosaic(window).parent, window, [window, other]) == [root.mosaic(f"{window}-dec+54.6")]
