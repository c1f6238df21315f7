"""The workflow without what it needs: a calibrator, settings that make sense, WSClean, raw files."""

from __future__ import annotations

import json
import shutil

import pytest
from workflow_runs import raw_groups, snakemake

from contimg.core.paths import DataRoot


def test_without_a_calibrator_groups_wait_and_take_it_up_later(tmp_path):
    truth = raw_groups(tmp_path, groups=2, before=0)
    aside = tmp_path / "aside"
    aside.mkdir()
    for name in truth["groups"][0]["files"]:
        shutil.move(tmp_path / "incoming" / name, aside / name)
    light = {"calibration": {"field_iterations": 0}, "imaging": {"field_of_view_deg": 2.0}}
    waiting = snakemake(tmp_path, settings=light)
    said = waiting.stdout + waiting.stderr
    assert waiting.returncode == 0, said
    root = DataRoot(tmp_path)
    (target,) = [path.stem for path in root.groups.iterdir()]
    assert f"{target} waits: no usable calibration set" in said
    assert not root.image(target).exists()
    summary = json.loads((root.reports / "summary.json").read_text())
    assert target in json.dumps(summary)
    for path in aside.iterdir():
        shutil.move(path, tmp_path / "incoming" / path.name)
    done = snakemake(tmp_path, "images", settings=light)
    assert done.returncode == 0, done.stdout + done.stderr
    assert root.image(target).exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"imaging": {"robut": 0}}, "imaging.robut: no such setting"),
        ({"ingest": {"min_subbands": 99}}, "ingest.min_subbands"),
        ({"sky_catalogue": {"path": "/no/sky.csv"}}, "/no/sky.csv: there is no such catalogue"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(tmp_path, settings, said):
    (tmp_path / "incoming").mkdir()
    refused = snakemake(tmp_path, "-n", settings=settings)
    assert refused.returncode != 0
    assert said in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr


def test_wsclean_must_be_there_where_it_is_chosen(tmp_path, monkeypatch):
    (tmp_path / "incoming").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = snakemake(tmp_path, "-n", settings={"imaging": {"imager": "wsclean"}})
    assert refused.returncode != 0
    assert "imaging.imager: wsclean is not on the PATH" in refused.stdout + refused.stderr
    assert snakemake(tmp_path, "-n").returncode == 0


def test_a_data_root_without_raw_files_is_refused_in_one_line(tmp_path):
    refused = snakemake(tmp_path, "-n")
    assert refused.returncode != 0
    assert f"data_root: {tmp_path / 'incoming'} is not a folder" in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
