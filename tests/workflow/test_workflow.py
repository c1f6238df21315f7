"""The whole workflow with real Snakemake and CASA: what must come out of three groups around a transit."""

from __future__ import annotations

import json
import os
import shutil
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from imported_snakemake import CHECKOUT
from truth import peaks, plane
from workflow_runs import Run, finished_run, snakemake

from contimg.cli import main
from contimg.core import config
from contimg.core.paths import DataRoot, group_id, group_of, group_start
from contimg.measured_beam import beam_evidence, beam_fit
from contimg.simulator.faults import Fault, FaultKind
from contimg.telescope import beam


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    """Three groups; the third has a zeroed and a truncated subband."""
    faults = [
        Fault(FaultKind.ZEROED, 2, (4,)),
        Fault(FaultKind.TRUNCATED, 2, (11,)),
        Fault(FaultKind.SPLIT, 0, (3,)),
    ]
    return finished_run(tmp_path_factory.mktemp("workflow"), faults=faults)


MOSAIC = "mosaics/2026-01-12/20260112T080000.image.fits"
"""Of the group before the calibrator's, alone."""


@pytest.fixture(scope="module")
def by_tclean(run, tmp_path_factory) -> Run:
    """The first group's image and mosaic, made of the same Measurement Set by CASA's tclean."""
    root = DataRoot(tmp_path_factory.mktemp("tclean"))
    for name in ("incoming", "groups", "ms", "calibration"):
        shutil.copytree(run.root.root / name, root.root / name, copy_function=os.link)
    done = snakemake(root.root, MOSAIC, settings={"imaging": {"imager": "tclean"}})
    assert done.returncode == 0, done.stdout + done.stderr
    (group,) = (name for name in run.groups if root.image(name).exists())
    assert json.loads(root.image(group, "json").read_text())["imager"] == "tclean"
    return replace(run, root=root, groups=[group])


@pytest.fixture(scope="module", params=["run", "by_tclean"], ids=["contimg", "tclean"])
def imaged(request) -> Run:
    """A finished run by each imager that needs nothing beside Python."""
    return request.getfixturevalue(request.param)


def products(run: Run, group: str) -> tuple[Path, Path, Path]:
    return tuple(run.root.image(group, f"{kind}.fits") for kind in ("image", "noise", "pb"))


def test_sources_come_out_with_their_fluxes_and_places(imaged):
    for group in imaged.groups:
        image, noise, pb = products(imaged, group)
        found = peaks(image, noise, pb, min_snr=15)
        beam_deg = plane(image)[2]["BMIN"]
        expected = np.nonzero(imaged.sky.inside(pb, 0.52))[0]
        assert expected.size >= 5
        for source in expected:
            distance = found.position.separation(imaged.sky.position[source]).deg
            nearest = int(np.argmin(distance))
            name = f"{group} {imaged.sky.names[source]}"
            assert distance[nearest] < beam_deg / 10, f"{name} is {distance[nearest] * 3600:.1f} arcsec off"
            true = imaged.sky.flux_jy[source]
            error = abs(found.flux_jy[nearest] - true)
            limit = (
                0.02 * true
                if imaged.sky.names[source].startswith("J0834") and group == imaged.calibrator
                else 0.03 * true
            )
            assert error < max(limit, 3 * true / found.snr[nearest]), (
                f"{name}: {found.flux_jy[nearest]} Jy, true {true}"
            )


def test_nothing_is_invented(imaged):
    for group in imaged.groups:
        image, noise, pb = products(imaged, group)
        found = peaks(image, noise, pb, min_snr=7)
        beam_deg = plane(image)[2]["BMAJ"]
        for position, snr in zip(found.position, found.snr, strict=True):
            nearest = position.separation(imaged.sky.position).deg.min()
            assert nearest < beam_deg, f"{group}: {snr:.1f} sigma at {position.to_string('hmsdms')}, where nothing is"


def test_the_noise_is_what_the_sefd_predicts(imaged):
    for group in imaged.groups:
        sidecar = json.loads(imaged.root.image(group, "json").read_text())
        assert 0.8 < sidecar["noise_jy"] / sidecar["thermal_noise_jy"] < 1.2


def test_the_images_say_how_they_were_calibrated(imaged):
    for group in imaged.groups:
        sidecar = json.loads(imaged.root.image(group, "json").read_text())
        selection = json.loads(imaged.root.image(group, "selection.json").read_text())
        header = plane(imaged.root.image(group))[2]
        assert selection["verdict"] == sidecar["verdict"] == "fresh"
        assert selection["calibrator"] == "J0834+5534"
        assert imaged.calibrator in selection["set"]
        assert header["BUNIT"] == "Jy/beam"
        assert header["TELESCOP"] == "OVRO_MMA"
        for key in ("BMAJ", "BMIN", "BPA", "RESTFRQ", "DATE-OBS", "CRVAL1", "CTYPE1"):
            assert key in header


def test_bad_subbands_are_named_and_the_group_goes_on(run):
    manifest = json.loads(run.root.manifest(run.groups[2]).read_text())
    assert manifest["state"] == "incomplete"
    assert manifest["subbands"]["04"]["state"] == "zeroed"
    assert manifest["subbands"]["11"]["state"] == "truncated"
    sidecar = json.loads(run.root.ms_sidecar(run.groups[2]).read_text())
    assert sidecar["zeroed_subbands"] == [4]
    assert sidecar["missing_subbands"] == [11]


def test_the_mosaic_is_as_deep_as_its_weights_say(imaged):
    mosaics = sorted((imaged.root.root / "mosaics").glob("*/*.image.fits"))
    assert mosaics
    for path in mosaics:
        window = group_of(path)
        sidecar = json.loads(imaged.root.mosaic(window, "json").read_text())
        image, _, _ = plane(path)
        weight = plane(imaged.root.mosaic(window, "weight.fits"))[0]
        coverage = plane(imaged.root.mosaic(window, "coverage.fits"))[0]
        several = (coverage >= min(3, len(sidecar["groups"]))) & np.isfinite(image)
        scaled = image[several] * np.sqrt(weight[several])  # of unit noise where there is no source
        spread = 1.4826 * np.median(np.abs(scaled - np.median(scaled)))
        assert 0.9 < spread < 1.1


def test_a_mosaic_of_several_images_is_deeper_than_each(run):
    sidecars = [json.loads(path.read_text()) for path in (run.root.root / "mosaics").glob("*/*.json")]
    several = [sidecar for sidecar in sidecars if len(sidecar["groups"]) > 1]
    assert several
    for sidecar in several:
        noises = [json.loads(run.root.image(group, "json").read_text())["noise_jy"] for group in sidecar["groups"]]
        assert sidecar["depth_jy"] < min(noises)


def counted(said: str) -> dict[str, int]:
    """The job table of a dry run."""
    rows = [line.split() for line in said.splitlines()]
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit() and row[0].isalpha()}


def test_what_another_beam_made_is_made_again_when_asked_and_only_then(run, capsys):
    """A second call finds nothing to do, even after a change of the primary beam in the settings."""
    other = {"beam": {"fwhm_deg": 2.7}}
    again = snakemake(run.root.root, "-n", settings=other)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr
    assert main(["beam", "show", "--config", str(run.root.root / "test.yaml")]) == 0
    named = [line for line in capsys.readouterr().out.splitlines() if line.endswith(".json")]
    planned = counted(snakemake(run.root.root, "-n", "--force", *named, settings=other).stdout)
    windows = len(list(run.root.root.glob("mosaics/*/*.validation.html")))
    assert len(named) == 1 + 3 + windows
    assert (planned["solve"], planned["image"], planned["mosaic"]) == (1, 3, windows)
    assert planned.keys() <= {"solve", "select", "image", "mosaic", "total"}


def test_set_and_images_are_evidence_on_the_beam(run, in_process):
    """The setting is the simulation's beam, and the calibrator's gains do not change while it crosses the beam."""
    settings = config.validated({"data_root": str(run.root.root)}, {})
    found = in_process(beam_evidence.collect, run.root, settings.beam, settings.sky_catalogue, [])
    assert (found.images, found.sets, found.left_out) == (3, 1, ())
    course = found.evidence.chosen(found.evidence.image == beam_fit.NO_IMAGE)
    residual = course.log_apparent - beam_fit.log_power(beam.of(settings.beam).power, course)
    assert len(residual) >= 5
    assert np.ptp(residual) < 0.01


def test_groups_that_are_due_together_share_the_cores(run, tmp_path):
    """Three groups on two cores: two side by side on one core each, the one that is left over on both."""
    shutil.copytree(run.root.incoming, tmp_path / "incoming", copy_function=os.link)
    wanted = [str(run.root.ms_sidecar(group).relative_to(run.root.root)) for group in run.groups]
    planned = snakemake(tmp_path, "-n", "--cores", "2", "--", *wanted, settings={"limits": {"threads": 2}}).stdout
    jobs = [block for block in planned.split("\n[") if "rule convert:" in block]
    assert sorted("threads: 2" in job for job in jobs) == [False, False, True]


def test_going_back(run):
    forced = counted(snakemake(run.root.root, "-n", "--forcerun", "image").stdout)
    assert forced["image"] == 3
    assert forced["mosaic"] >= 1
    assert "convert" not in forced
    assert "solve" not in forced
    until = counted(snakemake(run.root.root, "-n", "--forcerun", "image", "--until", "image").stdout)
    assert until["image"] == 3
    assert "mosaic" not in until
    image = run.root.image(run.groups[0])
    single = snakemake(run.root.root, "-n", "--forcerun", "image", "--", str(image.relative_to(run.root.root)))
    assert counted(single.stdout) == {"image": 1, "total": 1}


@pytest.mark.parametrize(("rule", "jobs"), [("convert", 3), ("solve", 1), ("image", 3)])
def test_until_a_rule_on_new_data(run, tmp_path, rule, jobs):
    """Nobody has looked for calibrators yet: what waits for that is planned all the same."""
    shutil.copytree(run.root.incoming, tmp_path / "incoming", copy_function=os.link)
    time.sleep(1)  # the third group has waited for its bad subbands then
    planned = counted(snakemake(tmp_path, "-n", "--until", rule).stdout)
    assert planned[rule] == jobs
    assert "mosaic" not in planned


def test_relative_paths_are_seen_from_where_snakemake_was_called(run, tmp_path):
    shutil.copytree(run.root.incoming, tmp_path / "incoming", copy_function=os.link)
    (tmp_path / "memory").mkdir()
    settings = {
        "data_root": os.path.relpath(tmp_path, CHECKOUT),
        "staging": {"directory": os.path.relpath(tmp_path / "memory", CHECKOUT)},
        "groups": run.groups[:1],
    }
    made = snakemake(tmp_path, "--until", "convert", settings=settings)
    assert made.returncode == 0, made.stdout + made.stderr
    root = DataRoot(tmp_path)
    assert root.ms(run.groups[0]).is_dir()
    assert json.loads(root.attempt(run.groups[0], "convert", 1).read_text())["outcome"] == "ok"
    assert not (tmp_path / tmp_path.name).exists()


def listing(root: Path) -> dict[str, tuple[int, int]]:
    """All below a data root with time and size, but for Snakemake's own folder and what `snakemake` adds."""
    own = {".snakemake", "test.yaml", "home", "cache"}
    paths = (path for top in root.iterdir() if top.name not in own for path in (top, *top.rglob("*")))
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in paths}


def test_what_only_looks_writes_nothing_below_the_data_root(run, tmp_path):
    """Neither where all is done nor where nobody has looked at the files."""
    shutil.copytree(run.root.incoming, tmp_path / "incoming", copy_function=os.link)
    (tmp_path / "incoming" / "2026-01-12T07:00:00_sb03.hdf5").write_bytes(b"on its way")
    before = listing(tmp_path)
    planned = snakemake(tmp_path, "-n", settings={"ingest": {}})
    assert counted(planned.stdout)["convert"] == 2  # the third group's bad subbands are judged a minute later
    assert "2026-01-12T07:00:00_sb03.hdf5" in planned.stdout + planned.stderr  # looks bad, and came a moment ago
    linted = snakemake(tmp_path, "--lint")
    assert "Traceback" not in linted.stdout + linted.stderr
    assert listing(tmp_path) == before
    done = listing(run.root.root)
    snakemake(run.root.root, "-n")
    snakemake(run.root.root, "--report", str(tmp_path / "report.html"))
    assert (tmp_path / "report.html").exists()
    assert listing(run.root.root) == done


def test_a_product_whose_remake_failed_stays_and_is_due_until_it_is_made(run):
    """Snakemake takes the old files, put back, for made from the new inputs."""
    (path, *_) = sorted((run.root.root / "mosaics").glob("*/*.image.fits"))
    window, before = group_of(path), path.read_bytes()
    target = str(path.relative_to(run.root.root))
    hasty = {"limits": {"threads": 1, "mosaic_minutes": 0.0001}}
    failed = snakemake(run.root.root, "--forcerun", target, "--", target, settings=hasty)
    assert failed.returncode != 0
    assert path.read_bytes() == before
    assert counted(snakemake(run.root.root, "-n", "--", target).stdout)["mosaic"] == 1
    made = snakemake(run.root.root, "--", target)
    assert made.returncode == 0, made.stdout + made.stderr
    assert json.loads(run.root.mosaic(window, "json").read_text())["made"]["attempt"] == 3
    assert "Nothing to be done" in snakemake(run.root.root, "-n", "--", target).stdout


def test_a_calibrator_group_without_a_solution_is_a_result_and_blocks_nobody(run, tmp_path):
    """Faults 4 and 5: every target waited for it, and it was given up though another set was near."""
    for name in ("incoming", "groups", "ms"):
        shutil.copytree(run.root.root / name, tmp_path / name, copy_function=os.link)
    root = DataRoot(tmp_path)
    hopeless = {"calibration": {"min_snr": 1e6, "field_iterations": 0}}
    solved = snakemake(tmp_path, "--", str(root.set(run.calibrator).relative_to(tmp_path)), settings=hopeless)
    assert solved.returncode == 0, solved.stdout + solved.stderr
    quality = json.loads(root.set(run.calibrator).read_text())["quality"]
    assert not quality["passed"]
    assert quality["reasons"]
    waiting = snakemake(tmp_path, "-n", settings=hopeless)
    assert "image" not in counted(waiting.stdout)
    assert "solve" not in counted(waiting.stdout)
    for group in run.groups:
        assert f"{group} waits: no usable calibration set" in waiting.stdout + waiting.stderr
    near = group_id(group_start(run.groups[0]) - timedelta(minutes=30))
    shutil.copytree(run.root.calibration(run.calibrator), root.calibration(near))
    assert counted(snakemake(tmp_path, "-n", settings=hopeless).stdout)["image"] == 3


def test_the_report_holds_the_pictures_and_the_table(run):
    report = run.root.reports / "report.html"
    made = snakemake(run.root.root, "--report", str(report))
    assert made.returncode == 0, made.stderr
    text = report.read_text()
    for word in ("Mosaics", "Images", "Calibration", "Summary", *run.groups):
        assert word in text


def test_the_report_of_a_partial_run_holds_what_there_is(run, tmp_path):
    copied = tmp_path / "root"
    shutil.copytree(run.root.root, copied, copy_function=os.link, ignore=shutil.ignore_patterns("test.yaml", "home"))
    root = DataRoot(copied)
    shutil.rmtree(copied / "mosaics")
    for path in (*root.reports.iterdir(), *root.image(run.groups[0]).parent.glob(f"{run.groups[0]}.*")):
        path.unlink()
    report = tmp_path / "report.html"
    made = snakemake(copied, "--report", str(report))
    assert made.returncode == 0, made.stderr
    text = report.read_text()
    assert f"{run.groups[1]}.png" in text
    assert f"{run.groups[0]}.png" not in text


def test_every_job_left_its_record(run):
    for group in run.groups:
        for rule in ("convert", "detect", "select", "image"):
            record = json.loads(run.root.attempt(group, rule, 1).read_text())
            assert record["outcome"] == "ok"
            assert record["duration_s"] > 0
