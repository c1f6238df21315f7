"""Wrong, and said to be clean: what differs between a set and its target, through the whole workflow."""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from workflow_runs import OLD, SEED, sky_and_start, snakemake

from contimg.core.paths import DataRoot
from contimg.simulator.simulator import SMALL, simulate

MOVED_DEG = 0.6
WEAKER = 0.7


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A calibrator's group and three more: one as it should be, one with weaker signals, one pointed elsewhere."""
    folder = tmp_path_factory.mktemp("wrong")
    scenario, sky = sky_and_start(4, 0)
    step = timedelta(seconds=SMALL.length_s)
    for number, count, declination_deg in (
        (0, 3, scenario.declination_deg),
        (3, 1, scenario.declination_deg - MOVED_DEG),
    ):
        simulate(
            folder / "incoming",
            scenario.start + number * step,
            count,
            preset=SMALL,
            sky=sky,
            declination_deg=declination_deg,
            gains_from=scenario.start,
            seed=SEED,
        )
    paths = sorted((folder / "incoming").glob("*.hdf5"))
    for path in paths[32:48]:
        with h5py.File(path, "r+") as file:
            file["Data/visdata"][...] = file["Data/visdata"][()] * WEAKER
    for path in paths:
        os.utime(path, (OLD, OLD))
    done = snakemake(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return DataRoot(folder)


@pytest.fixture(scope="module")
def images(root: DataRoot) -> list[dict[str, Any]]:
    """Sidecars of the images, in the order of time."""
    names = sorted(path.stem for path in root.groups.iterdir())
    return [json.loads(root.image(name, "json").read_text()) for name in names]


def test_data_that_are_as_they_should_be_are_clean(images: list[dict[str, Any]]) -> None:
    assert (images[0]["quality"], images[0]["reasons"]) == ("clean", [])


def test_weaker_visibilities_are_told_by_their_noise(images: list[dict[str, Any]]) -> None:
    """As of receivers whose gain has fallen since the set: all fluxes are too small, and so is the noise."""
    weak = images[2]
    assert weak["quality"] == "degraded"
    assert any("less than the receivers' own" in reason for reason in weak["reasons"])
    ratio, usual = (image["noise_jy"] / image["thermal_noise_jy"] for image in (weak, images[0]))
    assert ratio / usual == pytest.approx(WEAKER, rel=0.05)  # noise by place differs from that by beams by 2 to 3 %


def test_images_that_disagree_say_so(root: DataRoot, images: list[dict[str, Any]]) -> None:
    """Each is compared with a neighbour that was there before it, if any; the mosaic compares all."""
    scales = [WEAKER if number == 2 else 1.0 for number in range(4)]
    names = [image["group"] for image in images]
    for image, scale in zip(images, scales, strict=True):
        told = image["validation"]
        if told["reference"] in names:
            expected = scale / scales[names.index(told["reference"])]
            assert 1 + told["checks"]["flux_scale"]["value"] == pytest.approx(expected, rel=0.03)
            assert ("flux_scale" in told["reasons"]) == (expected != 1)
    (mosaic,) = (root.root / "mosaics").rglob("20260112T090000.json")
    assert "validation: overlap" in json.loads(mosaic.read_text())["reasons"]


def test_what_was_calibrated_at_another_declination_says_so(images: list[dict[str, Any]]) -> None:
    assert images[3]["reasons"] == ["calibrated at declination +54.57 deg, the target is at +53.97 deg"]
    assert images[3]["quality"] == "degraded"


def test_each_pointing_of_a_window_has_its_mosaic(root: DataRoot, images: list[dict[str, Any]]) -> None:
    """They were one, of which most was empty."""
    names = [image["group"] for image in images]
    mosaics = [json.loads(path.read_text()) for path in sorted((root.root / "mosaics").rglob("*.json"))]
    groups = sorted(mosaic["groups"] for mosaic in mosaics)
    assert groups == [names[:3], names[3:]]
    for path in (root.root / "mosaics").rglob("*.image.fits"):
        with fits.open(path) as file:
            assert np.isfinite(file[0].data).mean() > 0.9, "hardly any of it is empty"
