"""Which images are to be made again, and that nothing else makes one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contimg.core.config import Settings
from contimg.core.files import read_json, write_json
from contimg.core.paths import DataRoot, RawName, group_id
from contimg.sets import reimaging
from contimg.sets.registry import Registry
from contimg.sets.select import select

START = datetime(2026, 1, 25, 12, tzinfo=UTC)
TARGET = group_id(START)


class Scene:
    """A data root with one target."""

    def __init__(self, path: Path) -> None:
        self.root = DataRoot(path)
        self.settings = Settings(data_root=path)
        manifest = {
            "group": TARGET,
            "state": "complete",
            "reason": None,
            "start_jd": 2440587.5 + (START.timestamp() + 12.884902 / 2) / 86400,
            "integrations": 24,
            "integration_s": 12.884902,
            "declination_deg": 54.57,
            "channels": 48,
            "subbands": {
                f"{number:02d}": {
                    "path": f"incoming/{RawName(START, number)}",
                    "size": 1,
                    "mtime_ns": 1,
                    "state": "good",
                    "reason": None,
                }
                for number in range(16)
            },
            "duplicates": [],
        }
        write_json(self.root.manifest(TARGET), manifest)
        self.root.ms(TARGET).mkdir(parents=True)

    def set(self, hours: float, *, passed: bool = True) -> Path:
        observed = START + timedelta(hours=hours, seconds=148)
        content = {
            "group": group_id(observed),
            "calibrator": "J0834+5534",
            "observed_utc": observed.isoformat(),
            "quality": {"passed": passed, "reasons": [] if passed else ["phase scatter"]},
        }
        write_json(self.root.set(content["group"]), content)
        return self.root.set(content["group"])

    def serving(self) -> list[Path]:
        return reimaging.serving_sets(Registry(self.root, self.settings.calibration), TARGET)

    def image(self) -> None:
        """Make the image with what serves now."""
        selection = select(self.root.manifest(TARGET), self.serving(), Registry(self.root, self.settings.calibration))
        write_json(self.root.image(TARGET, "selection.json"), selection)
        write_json(self.root.image(TARGET, "json"), {key: selection[key] for key in ("verdict", "sets")})

    @property
    def due(self) -> bool:
        return reimaging.due(Registry(self.root, self.settings.calibration), [TARGET]) == [TARGET]


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_without_an_image_the_best_serves_and_nothing_is_due(scene: Scene) -> None:
    assert scene.serving() == []
    far = scene.set(-4)
    assert scene.serving() == [far]
    near = scene.set(-2)
    assert scene.serving() == [near]
    assert not scene.due


def test_an_image_goes_up_the_verdicts_and_stays_there(scene: Scene) -> None:
    scene.set(-30)
    scene.image()
    ways = []
    for hours in (-5, 2.8, -2.5):
        scene.set(hours)
        assert scene.due
        scene.image()
        assert not scene.due
        selection = read_json(scene.root.image(TARGET, "selection.json"))
        ways.append((selection["verdict"], selection["interpolated"]))
    assert ways == [("nearest", False), ("fresh", False), ("fresh", True)]
    for hours in (-2.4, 2.7, 5, -1.9, 20):  # better, but not enough
        scene.set(hours)
        assert not scene.due
        assert len(scene.serving()) == 2
    scene.set(0.5)
    assert scene.due


def test_failed_sets_change_nothing(scene: Scene) -> None:
    first = scene.set(-2.8)
    scene.image()
    scene.set(-0.2, passed=False)
    assert not scene.due
    assert scene.serving() == [first]


def test_a_set_that_turns_out_bad_is_replaced_even_by_a_worse_one(scene: Scene) -> None:
    worse = scene.set(-5)
    scene.set(-1)
    scene.image()
    scene.set(-1, passed=False)
    assert scene.due
    assert scene.serving() == [worse]
    scene.image()
    assert not scene.due


def test_a_set_that_is_gone_still_stands_for_its_image(scene: Scene) -> None:
    scene.set(-5)
    used = scene.set(-1)
    scene.image()
    used.unlink()
    assert not scene.due
    assert scene.serving() == [used]


def test_with_nothing_left_that_is_good_the_image_stays(scene: Scene) -> None:
    used = scene.set(-1)
    scene.image()
    scene.set(-1, passed=False)
    assert not scene.due
    assert scene.serving() == [used]


def test_an_image_whose_field_failed_is_made_again_for_a_better_set(scene: Scene) -> None:
    """It stands on its set alone, whatever was selected."""
    write_json(scene.root.calibrator(TARGET), {"field": {"serves": True, "phase_error_deg": 0.3}})
    scene.set(-30)
    scene.image()
    scene.set(-5)
    assert not scene.due  # the field would calibrate it as well
    sidecar = scene.root.image(TARGET, "json")
    write_json(sidecar, read_json(sidecar) | {"verdict": "stale"})
    assert scene.due
    scene.image()
    write_json(sidecar, read_json(sidecar) | {"verdict": "nearest"})
    assert not scene.due
    scene.set(-1)
    assert scene.due


def test_without_its_data_an_image_is_not_made_again(scene: Scene) -> None:
    old = scene.set(-5)
    scene.image()
    scene.set(-1)
    assert scene.due
    scene.root.ms(TARGET).rmdir()
    assert not scene.due
    assert scene.serving() == [old]
    scene.root.incoming.mkdir()
    for number in range(16):
        (scene.root.incoming / str(RawName(START, number))).touch()
    assert scene.due


def test_an_image_that_was_not_made_with_its_selection_is_due(scene: Scene) -> None:
    """Its remake failed, and nobody remembers."""
    scene.set(-5)
    scene.image()
    better = scene.set(-1)
    selection = select(scene.root.manifest(TARGET), scene.serving(), Registry(scene.root, scene.settings.calibration))
    write_json(scene.root.image(TARGET, "selection.json"), selection)
    assert scene.due
    assert scene.serving() == [better]
    scene.image()
    assert not scene.due


def test_a_set_that_is_solved_again_with_another_beam_takes_its_images_along(scene: Scene) -> None:
    path = scene.set(1)
    write_json(path, {**read_json(path), "primary_beam": "airy 3.2 deg at 1400 MHz"})
    scene.image()
    sidecar = scene.root.image(TARGET, "json")
    made = {**read_json(sidecar), "calibration_beams": ["airy 3.2 deg at 1400 MHz"]}
    write_json(sidecar, made)
    assert not scene.due
    write_json(path, {**read_json(path), "primary_beam": "gaussian 3 deg at 1400 MHz"})
    assert scene.due
    assert scene.serving() == [path]
    write_json(sidecar, {**made, "calibration_beams": ["gaussian 3 deg at 1400 MHz"]})
    assert not scene.due
    better = scene.set(-0.2)
    path.write_text('{"primary_b')
    assert scene.due  # a damaged set had kept its images from every better one
    better.unlink()
    path.unlink()
    assert not scene.due


def test_history_has_every_earlier_version() -> None:
    first = {"verdict": "stale", "noise_jy": 3e-3, "beam": {}, "made": {"version": "1", "written": "a", "inputs": {}}}
    second = {"verdict": "nearest", "noise_jy": 2e-3, "history": reimaging.history(first), "made": {"written": "b"}}
    assert reimaging.history(None) == []
    past = reimaging.history(second)
    assert [(one["verdict"], one["noise_jy"], one["made"]["written"]) for one in past] == [
        ("stale", 3e-3, "a"),
        ("nearest", 2e-3, "b"),
    ]
    assert "beam" not in past[0]
