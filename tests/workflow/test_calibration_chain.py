"""The chain of calibration with real Snakemake and CASA: a target as sets come, get better, turn bad."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import drifting_groups
import numpy as np
import pytest
import yaml
from imported_snakemake import called
from truth import Sky, peaks, plane
from workflow_runs import environment

from contimg.core.files import read_json, write_json
from contimg.core.paths import DataRoot, group_start, window_of

pytestmark = pytest.mark.slow

BEFORE, TARGET, AFTER = drifting_groups.names()
_BRIGHT = 30
"""Sources above so many times the noise are held against the truth."""


@dataclass
class Site:
    """A data root that groups come to, and the workflow on it."""

    root: DataRoot

    def arrive(self, number: int) -> None:
        """Let a group's files arrive."""
        for path in (self.root.root / "to_come" / str(number) / "incoming").iterdir():
            path.rename(self.root.incoming / path.name)

    def make(self, *targets: Path, dry: bool = False) -> str:
        """Call Snakemake for some files; returns what it said."""
        names = [str(path.relative_to(self.root.root)) for path in targets]
        options = ["--configfile", str(self.root.root / "test.yaml"), *(["-n"] if dry else [])]
        done = called(environment(self.root.root), *options, "--profile", "profiles/local", "--", *names)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def image(self) -> dict[str, Any]:
        """Bring the target's image up to date; returns its sidecar."""
        return self._settled(self.root.image(TARGET))

    def image_and_mosaic(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Bring the mosaic of the target's window up to date, and so the image; returns their sidecars."""
        path = self.root.mosaic(window_of(TARGET, 60), "json")
        return self._settled(path), dict(read_json(path))

    def _settled(self, path: Path) -> dict[str, Any]:
        self.make(path)
        assert "Nothing to be done" in self.make(path, dry=True)
        return dict(read_json(self.root.image(TARGET, "json")))

    def change_set(self, group: str, *, hours_earlier: float = 0.0, passed: bool = True) -> None:
        """Make a set older than it is, or bad."""
        content = read_json(self.root.set(group))
        middle = group_start(group) + timedelta(seconds=155) - timedelta(hours=hours_earlier)
        content |= {"observed_utc": middle.isoformat()}
        content |= {"valid_from": (middle - timedelta(hours=3)).isoformat()}
        content |= {"valid_until": (middle + timedelta(hours=3)).isoformat()}
        content["quality"] |= {"passed": passed, "reasons": [] if passed else ["phase scatter 31 is over 20"]}
        write_json(self.root.set(group), content)

    def flux_errors(self) -> np.ndarray:
        """Relative errors of the fluxes of the target's bright sources."""
        image, noise, pb = (self.root.image(TARGET, f"{kind}.fits") for kind in ("image", "noise", "pb"))
        sky = Sky.read(self.root.root / "to_come" / "1" / "truth-1.json")
        found = peaks(image, noise, pb, min_snr=_BRIGHT)
        errors = []
        for source in np.flatnonzero(sky.inside(pb, 0.5)):
            distance = found.position.separation(sky.position[source]).arcsec
            if distance.size and distance.min() < 10:
                errors.append(found.flux_jy[distance.argmin()] / sky.flux_jy[source] - 1)
        return np.array(errors)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("chain")
    for number in range(3):
        drifting_groups.observe(folder / "to_come" / str(number), number)
    (folder / "incoming").mkdir()
    drifting_groups.write_catalogue(folder / "calibrators.csv")
    settings = {
        "data_root": str(folder),
        "limits": {"threads": 1},
        "calibration": {"catalogues": [str(folder / "calibrators.csv")], "field_iterations": 0},
        "imaging": {"field_of_view_deg": 2.6},
    }
    (folder / "test.yaml").write_text(yaml.safe_dump(settings))
    return Site(DataRoot(folder))


def test_the_whole_chain(site: Site) -> None:
    """One test, as each step starts from what the one before has left."""
    root = site.root

    # No set: the target waits, and Snakemake says so.
    site.arrive(1)
    said = site.make(root.reports / "summary.html")
    assert f"{TARGET} waits: no usable calibration set" in said
    assert not root.image(TARGET).exists()

    # A set appears, but is 30 h old: stale.
    site.arrive(0)
    site.make(root.set(BEFORE))
    site.change_set(BEFORE, hours_earlier=30)
    stale, mosaic = site.image_and_mosaic()
    assert (stale["verdict"], stale["interpolated"], stale["history"]) == ("stale", False, [])
    assert stale["age_hours"] == pytest.approx(31.5, abs=0.01)
    assert (stale["coverage"]["observations"], stale["coverage"]["share"], stale["coverage"]["met"]) == (2, 0, False)
    assert "last known good" in stale["warning"]
    assert plane(root.image(TARGET))[2]["VERDICT"] == mosaic["verdict"] == "stale"
    assert "ERROR" in root.log(TARGET, "select").read_text()

    # It is 1.5 h old: the image is made again, the mosaic too, the set is not.
    solved = root.attempt(BEFORE, "solve", 1)
    site.change_set(BEFORE)
    fresh, mosaic = site.image_and_mosaic()
    assert (fresh["verdict"], fresh["interpolated"]) == ("fresh", False)
    assert (fresh["coverage"]["share"], fresh["coverage"]["met"]) == (1, True)
    assert [one["verdict"] for one in fresh["history"]] == ["stale"]
    assert fresh["history"][0]["noise_jy"] == stale["noise_jy"]
    assert plane(root.image(TARGET))[2]["VERDICT"] == mosaic["verdict"] == "fresh"
    assert solved.exists()
    assert not root.attempt(BEFORE, "solve", 2).exists()

    # A set on the other side: interpolated, over several turns of phase.
    site.arrive(2)
    site.make(root.set(AFTER))
    both = site.image()
    assert (both["verdict"], both["interpolated"]) == ("fresh", True)
    assert [Path(path).parent.name for path in both["sets"]] == [BEFORE, AFTER]
    assert [one["verdict"] for one in both["history"]] == ["stale", "fresh"]
    assert both["interpolation"]["most_turns"] > 2
    assert both["interpolation"]["nearest"] == both["interpolation"]["one_side"] == []
    assert both["dynamic_range"] > 2 * fresh["dynamic_range"]
    errors = site.flux_errors()
    assert errors.size >= 5
    assert np.abs(errors).max() < 0.02

    # One of the two, solved again, fails its gate: the next best is used, and nothing of the bad one.
    site.change_set(AFTER, passed=False)
    next_best = site.image()
    assert (next_best["verdict"], next_best["interpolated"]) == ("fresh", False)
    assert [Path(path).parent.name for path in next_best["sets"]] == [BEFORE]
    selection = read_json(root.image(TARGET, "selection.json"))
    assert "phase scatter 31" in json.dumps(selection["considered"])

    # All are bad: the image stays what it is.
    site.change_set(BEFORE, passed=False)
    assert "Nothing to be done" in site.make(root.image(TARGET))


def test_without_fallback_a_target_waits_for_an_active_set(site: Site, tmp_path: Path) -> None:
    """Runs after the chain, on a copy of its sets."""
    root = DataRoot(tmp_path)
    for name in ("groups", "calibration"):
        shutil.copytree(site.root.root / name, root.root / name)
    shutil.copytree(site.root.incoming, root.incoming, copy_function=os.link)
    settings = yaml.safe_load((site.root.root / "test.yaml").read_text())
    settings["data_root"] = str(root.root)
    settings["calibration"]["auto_fallback"] = False
    (root.root / "test.yaml").write_text(yaml.safe_dump(settings))
    alone = Site(root)
    alone.change_set(AFTER, passed=False)
    alone.change_set(BEFORE, hours_earlier=2)
    said = alone.make(root.reports / "summary.html", dry=True)
    assert f"{TARGET} waits: no usable calibration set" in said
    alone.change_set(BEFORE)
    assert "waits" not in alone.make(root.reports / "summary.html", dry=True)
