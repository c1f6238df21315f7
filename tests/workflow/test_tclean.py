"""The same must come out of the workflow when CASA's tclean makes the images."""

from __future__ import annotations

import json

import pytest
from test_workflow import (  # noqa: F401 — the same tests, of this run
    test_nothing_is_invented,
    test_sources_come_out_with_their_fluxes_and_places,
    test_the_images_say_how_they_were_calibrated,
    test_the_mosaic_is_as_deep_as_its_weights_say,
    test_the_noise_is_what_the_sefd_predicts,
)
from workflow_runs import Run, finished_run

MOSAIC = "mosaics/2026-01-12/20260112T080000.image.fits"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The mosaic of the group before the calibrator's."""
    return finished_run(tmp_path_factory.mktemp("tclean"), MOSAIC, imaging={"imager": "tclean"})


def test_tclean_made_them(run: Run) -> None:
    assert len(run.groups) == 1
    for group in run.groups:
        assert json.loads(run.root.image(group, "json").read_text())["imager"] == "tclean"
