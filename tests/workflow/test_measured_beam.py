"""A sky seen through another beam than the setting's: found from a run's products, then everything made again.

All of it needs minutes of imaging: `--long`.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest
import workflow_runs

from contimg.core.files import read_json
from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.measured_beam import beam_fit
from contimg.measured_beam.beam_fit import NAMES, BeamModel
from contimg.simulator import simulator

GROUPS, BEFORE, FAINTEST_JY = 5, 2, 0.02
WINDOWS = 2
"""Number of mosaics: of the hour before the transit, and of the transit's."""
TRUTH = dict(zip(NAMES, (2.72, 2.85, 4 / 60, -3 / 60, 0.3), strict=True))


@dataclass
class Site:
    """Data root after a run of the workflow, and settings of its commands."""

    root: DataRoot
    settings: dict[str, object] = field(default_factory=dict)

    def snakemake(self, *arguments: str) -> str:
        done = workflow_runs.snakemake(self.root.root, *arguments, settings=self.settings)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def contimg(self, *arguments: str) -> str:
        command = [sys.executable, "-m", "contimg", *arguments, "--config", str(self.root.root / "test.yaml")]
        said = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
        print(f"$ contimg {' '.join(arguments)}\n{said}")
        return said

    def products(self) -> list[Mapping]:
        """Sidecars of all images and mosaics."""
        paths = [path for kind in ("images", "mosaics") for path in sorted(self.root.root.glob(f"{kind}/*/*.json"))]
        found = [read_json(path) for path in paths if re.fullmatch(r"\d{8}T\d{6}\.json", path.name)]
        assert len(found) == GROUPS + WINDOWS
        return found

    def times(self) -> dict[str, int]:
        """Modification times of the sidecars of everything that is made on the way to a mosaic."""
        root = self.root.root
        paths = [
            path for kind in ("ms", "calibration", "images", "mosaics") for path in root.glob(f"{kind}/**/*.json")
        ]
        return {str(path.relative_to(root)): path.stat().st_mtime_ns for path in paths}


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Site:
    if not request.config.getoption("--long"):
        pytest.skip("minutes of imaging: --long")
    folder = tmp_path_factory.mktemp("measured")
    scenario, sky = workflow_runs.sky_and_start(GROUPS, BEFORE, FAINTEST_JY)
    table = beam_fit.write_table(folder / "truth.hdf5", BeamModel(np.array(list(TRUTH.values()))))
    simulator.simulate(
        folder / "incoming",
        scenario.start,
        GROUPS,
        preset=simulator.SMALL,
        sky=sky,
        declination_deg=scenario.declination_deg,
        primary_beam=Beam(model="table", table=table),
        seed=workflow_runs.SEED,
    )
    rows = [f"{one.name},{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in sky]
    (folder / "sky.csv").write_text("\n".join(["name,ra_deg,dec_deg,flux_jy,spectral_index", *rows]) + "\n")
    made = Site(DataRoot(folder), {"sky_catalogue": {"path": str(folder / "sky.csv")}})
    made.snakemake()
    return made


@pytest.fixture(scope="module")
def fitted(site: Site) -> str:
    """Output of the fit to the run's products, which leaves `fitted/beam.hdf5`."""
    return site.contimg("beam", "fit", "--output", str(site.root.root / "fitted"))


def test_images_and_mosaics_say_that_the_beam_is_another(site: Site) -> None:
    for made in site.products():
        assert "beam" in made["validation"]["reasons"]
        assert made["quality"] == "degraded"
        print(made["reasons"], made.get("overlap"))


def test_the_beam_is_found_again(fitted: str) -> None:
    assert ", 1 calibrator sets" in fitted
    found = dict(re.findall(r"^(\w+) +(-?[\d.]+ ± [\d.]+)", fitted, re.MULTILINE))
    values = {name: tuple(float(part) for part in found[name].split(" ± ")) for name in NAMES}
    assert values["width_east_deg"][0] == pytest.approx(TRUTH["width_east_deg"], rel=0.01)
    for name in ("offset_east_deg", "offset_north_deg"):
        assert values[name][0] == pytest.approx(TRUTH[name], abs=1 / 60)
    for name, (value, error) in values.items():
        assert abs(value - TRUTH[name]) < 4 * error, name


@pytest.mark.usefixtures("fitted")
def test_what_was_made_with_another_beam_is_made_again_when_asked_and_only_then(site: Site) -> None:
    table = site.root.root / "fitted" / "beam.hdf5"
    site.settings["beam"] = {"model": "table", "table": str(table)}
    before = site.times()
    assert "Nothing to be done" in site.snakemake()
    assert site.times() == before
    others = [line for line in site.contimg("beam", "show").splitlines() if line.endswith(".json")]
    kinds = [line.partition("/")[0] for line in others]
    assert [kinds.count(kind) for kind in ("calibration", "images", "mosaics")] == [1, GROUPS, WINDOWS]
    site.snakemake("--force", *others)
    after = site.times()
    assert {name: after[name] for name in before if name.startswith("ms/")} == {
        name: time for name, time in before.items() if name.startswith("ms/")
    }
    assert site.contimg("beam", "show").splitlines()[-1].startswith("0 sets, 0 images and 0 mosaics")
    for made in site.products():
        assert made["primary_beam"].startswith("table beam.hdf5")
        assert "beam" not in made["validation"]["reasons"]
