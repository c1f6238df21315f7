"""A sky seen through another beam than the setting's, through raw files, sets and images: the pages say so.

The long form images neighbouring groups and fits the beam to them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import imaging_group
import pytest
from conftest import call_in_process

from contimg.core import config, files
from contimg.core.paths import DataRoot
from contimg.core.sections import Beam
from contimg.image import image as image_module
from contimg.image.image import ImageProducts, image
from contimg.simulator import simulator
from contimg.telescope import beam
from contimg.truth import beam_evidence, beam_fit, overlap

GROUPS = 4
NARROW = Beam(fwhm_deg=2.72)


def converted(directory: Path, groups: int) -> list[str]:
    """Simulate and convert neighbouring groups of a sky that is written as a catalogue; returns their names."""
    from contimg.convert.convert import ConversionSettings, convert
    from contimg.ingest import groups as ingest

    root, settings = DataRoot(directory), config.validated({"data_root": str(directory)}, {})
    sources = imaging_group.spaced_sky(imaging_group.centre_deg(simulator.SMALL), 0.03, 7)
    rows = [f"{one.name},{one.ra_deg},{one.dec_deg},{one.flux_jy},{one.spectral_index}" for one in sources]
    (directory / "sky.csv").write_text("\n".join(["name,ra_deg,dec_deg,flux_jy,spectral_index", *rows]) + "\n")
    simulator.simulate(
        root.incoming,
        imaging_group.START,
        groups,
        preset=simulator.SMALL,
        sky=sources,
        declination_deg=imaging_group.DECLINATION_DEG,
        primary_beam=NARROW,
        seed=7,
    )
    names = []
    for group in ingest.scan(root, settings.ingest, datetime.now(UTC) + timedelta(days=1)).groups:
        ms = root.ms(group.name)
        ms.parent.mkdir(parents=True, exist_ok=True)
        sidecar = convert(root.manifest(group.name), ms, settings.part(ConversionSettings), 2)
        files.write_json(root.ms_sidecar(group.name), sidecar)
        names.append(group.name)
    return names


def imaged(root: DataRoot, group: str, settings: config.Settings) -> dict[str, Any]:
    """Make a group's image with the true gains for a set."""
    selection = {
        "group": group,
        "verdict": "fresh",
        "age_hours": 0.0,
        "set": "",
        "sets": [],
        "interpolated": False,
        "calibrator": "truth",
        "warning": None,
        "note": None,
    }
    names = ("image.fits", "noise.fits", "pb.fits", "png", "validation.html", "sources.csv")
    products = ImageProducts(*(root.image(group, name) for name in names))
    products.image.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(root.image(group, "selection.json"), selection)
    truth = imaging_group.true_gains(root.root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(image_module.interpolate, "load", lambda chosen, data_root: truth)
        content = image(
            root.ms(group), root.image(group, "selection.json"), products, root.root / "work", settings, 2
        )
    files.write_json(root.image(group, "json"), content)
    return json.loads(json.dumps(content))


def test_images_of_neighbouring_groups_give_the_beam(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if not request.config.getoption("--long"):
        pytest.skip("minutes of imaging: --long")
    names = call_in_process(converted, tmp_path, GROUPS)
    root = DataRoot(tmp_path)
    content = {"data_root": str(tmp_path), "sky_catalogue": {"path": str(tmp_path / "sky.csv")}}
    settings = config.validated(content, {})
    sidecars = [imaged(root, name, settings) for name in names]
    assert all(one["validation"]["checks"]["beam"]["value"] < -0.05 for one in sidecars)
    lists = [(root.image(name, "sources.csv"), one) for name, one in zip(names, sidecars, strict=True)]
    assert overlap.compare(overlap.read_all(lists)).slope < -0.05
    fitted = beam_fit.fit(beam_evidence.collect(root, settings.beam, settings.sky_catalogue, []).evidence)
    for name in ("width_east_deg", "width_north_deg"):
        value, error = fitted.value(name)
        assert value == pytest.approx(NARROW.fwhm_deg, rel=0.05)
        assert abs(value - NARROW.fwhm_deg) < 5 * error
    assert beam_fit.off_by(fitted, beam.of(settings.beam))["width"] == pytest.approx(3.2 / 2.72 - 1, abs=0.06)
