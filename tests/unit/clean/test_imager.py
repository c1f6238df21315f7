"""The imagers' doors: command lines, what a failure becomes, and which imager is taken."""

from __future__ import annotations

import logging
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

import imaging_group
import numpy as np
import pytest
from astropy.io import fits
from conftest import call_in_process
from imaging_group import centre_deg

from contimg.catalogues.source import Source
from contimg.clean import imager, options, tclean, wsclean
from contimg.clean.imager import CleanResult
from contimg.clean.noise import robust_noise
from contimg.clean.options import CleanOptions
from contimg.clean.sources import find
from contimg.core.errors import (
    ConfigError,
    ContimgError,
    DiskFullError,
    JobDiedError,
    MemoryExhaustedError,
    NoUsableDataError,
    ToolBrokenError,
    ToolFailedError,
)
from contimg.core.sections import Beam
from contimg.simulator import simulator
from contimg.simulator.gain_errors import PERFECT
from contimg.telescope import beam
from contimg.telescope.beam import separation
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM, WITH_DATA
from contimg.visibilities import subprocess_call
from contimg.visibilities.averaged import Averaged
from contimg.visibilities.baseline_averaging import ImagePlan, average

OPTIONS = CleanOptions(
    size=128,
    pixel_rad=float(np.radians(10 / 3600)),
    robust=0.5,
    iterations=100,
    mask_sigma=5,
    threshold_sigma=1,
    threads=1,
    memory_gb=1,
)
TINY = simulator.Preset(EAST_WEST_ARM[::10] + NORTH_SOUTH_ARM[::10], 1, 2)
FEW = simulator.Preset(EAST_WEST_ARM[::3] + NORTH_SOUTH_ARM[::3] + WITH_DATA[-6:], 6)
FIELD_SIZE = 640
FIELD = [
    Source(f"S{number}", centre_deg(FEW)[0] + east / 60, centre_deg(FEW)[1] + north / 60, flux)
    for number, (east, north, flux) in enumerate(
        ((3.1, 2.2, 0.2), (-9.4, 7.7, 0.1), (6.2, -8.9, 0.08), (-5.7, -3.3, 0.06))
    )
]
with_wsclean = pytest.mark.skipif(shutil.which("wsclean") is None, reason="WSClean is not installed")


@pytest.fixture(scope="module")
def noise(tmp_path_factory) -> Averaged:
    ms = call_in_process(imaging_group.make, tmp_path_factory.mktemp("tiny"), TINY, [])
    return average(ms, None, ImagePlan(OPTIONS.size * OPTIONS.pixel_rad, OPTIONS.robust, 0.0, beam.of(Beam())), 1)


def by_wsclean(ms: Path, prefix: Path) -> CleanResult:
    return imager.restored(wsclean.clean(ms, prefix, OPTIONS), "wsclean")


def stand_in(folder: Path, script: str) -> str:
    """A `wsclean` that does as told, and the PATH on which it is."""
    folder.mkdir()
    program = folder / "wsclean"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


def test_the_command_says_what_the_options_say():
    words = wsclean.command(Path("a.ms"), Path("work/field"), OPTIONS)
    line = " ".join(words)
    assert words[0] == "wsclean"
    assert words[-1] == "a.ms"
    for part in (
        "-size 128 128",
        "-scale 0.00277777777778deg",
        "-weight briggs 0.5",
        "-niter 100",
        "-auto-mask 5 -auto-threshold 1",
        "-j 1",
        "-abs-mem 1",
        "-name work/field",
        "-temp-dir work",
        "-use-wgridder",
        "-no-update-model-required",
    ):
        assert part in line


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("+ >>> Error writing to temporary data file", DiskFullError),
        ("error writing to FITS file: No space left on device", DiskFullError),
        ("error writing to FITS file: Disk quota exceeded", DiskFullError),
        ("+ >>> std::bad_alloc", MemoryExhaustedError),
    ],
)
def test_known_failures_become_typed_errors(tmp_path, monkeypatch, said, error):
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", f"echo '{said}'; exit 255"))
    with pytest.raises(error, match=r"a\.ms: WSClean says"):
        by_wsclean(tmp_path / "a.ms", tmp_path / "field")


def test_a_killed_wsclean_is_a_job_that_died(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", "kill -9 $$"))
    with pytest.raises(JobDiedError, match="WSClean was killed by SIGKILL"):
        by_wsclean(tmp_path / "a.ms", tmp_path / "field")


@pytest.mark.parametrize(
    ("makes", "said"),
    [
        ("exit 0", "left no whole image"),
        ("head -c 23040 {whole} > {residual}", "left no whole image"),
        ("head -c 40000 /dev/urandom > {residual}", "left no whole image"),
        ("cp {whole} {residual}", "not finite"),
    ],
    ids=["nothing", "half", "noise", "not numbers"],
)
def test_what_wsclean_leaves_unfit_is_not_the_group_s_fault(tmp_path, monkeypatch, makes, said):
    """Whatever its exit code: group after group would be given up for a broken imager."""
    whole, residual = tmp_path / "whole.fits", tmp_path / "field-residual.fits"
    header = fits.Header({"CTYPE1": "RA---SIN", "CTYPE2": "DEC--SIN"})
    fits.writeto(whole, np.full((100, 100), np.nan, np.float32), header)
    script = makes.format(whole=whole, residual=residual)
    monkeypatch.setenv("PATH", stand_in(tmp_path / "bin", script))
    with pytest.raises(ToolBrokenError, match=rf"field-residual\.fits: .*{said}"):
        by_wsclean(tmp_path / "a.ms", tmp_path / "field")


def test_tclean_finds_nothing_where_nothing_is(noise, tmp_path):
    made = imager.clean(noise, tmp_path / "field", replace(OPTIONS, mask_sigma=20), "tclean")
    assert np.array_equal(made.image, made.residual)
    assert not list(tmp_path.glob("field.*"))


@with_wsclean
def test_wsclean_says_why_it_failed(tmp_path):
    with pytest.raises(ToolFailedError, match=r"WSClean failed \(Table .*no\.ms does not exist"):
        by_wsclean(tmp_path / "no.ms", tmp_path / "field")


@pytest.mark.parametrize("name", ["auto", pytest.param("wsclean", marks=with_wsclean), "tclean"])
def test_flagged_data_make_no_image(noise, tmp_path, name):
    flagged = replace(noise, rows=replace(noise.rows, weights=np.zeros_like(noise.rows.weights)))
    with pytest.raises(NoUsableDataError):
        imager.clean(flagged, tmp_path / "field", OPTIONS, name)


@with_wsclean
def test_wsclean_talks_to_the_log(noise, tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        made = imager.clean(noise, tmp_path / "field", OPTIONS, "wsclean")
    assert made.imager == "wsclean"
    assert 0 < made.beam.minor_rad <= made.beam.major_rad
    assert any("Gridded visibility count" in record.message for record in caplog.records)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_beam_does_not_depend_on_the_pixels(noise, tmp_path):
    beams = []
    for size, arcsec in ((128, 10.0), (114, 11.23), (100, 12.8)):  # as wide, so that Briggs' weights stay the same
        options = replace(OPTIONS, size=size, pixel_rad=np.radians(arcsec / 3600))
        beams.append(imager.clean(noise, tmp_path / "field", options).beam)
    for widths in ([one.major_rad for one in beams], [one.minor_rad for one in beams]):
        assert max(widths) < 1.02 * min(widths)


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Averaged:
    """Point sources of 60 to 250 times the noise; for brighter ones WSClean grids too coarsely."""
    ms = call_in_process(imaging_group.make, tmp_path_factory.mktemp("few"), FEW, FIELD, corruptions=PERFECT)
    return average(ms, None, ImagePlan(FIELD_SIZE * OPTIONS.pixel_rad / 2, 0.0, 0.01, beam.of(Beam())), 2)


@pytest.mark.parametrize("name", [pytest.param("wsclean", marks=with_wsclean), "tclean"])
def test_the_imagers_agree(sources, tmp_path, name):
    """On peaks (0.5 %, or the noise), positions (0.02 beam and the noise), and noise (3 %).

    Each CLEAN divides noise otherwise between components and residual: peaks differ by up to the noise, 1 % at 90 σ,
    and as much with a threshold of 0.3 σ. On the brightest source, at 234 σ, it is a half percent that is held.
    """
    pixel_rad = sources.beam_rad / 4
    options = replace(
        OPTIONS, size=FIELD_SIZE, pixel_rad=pixel_rad, robust=0.0, iterations=20000, threads=2, memory_gb=2
    )
    ours, theirs = (
        imager.clean(sources, tmp_path / "o", options),
        imager.clean(sources, tmp_path / "t", options, name),
    )
    assert (ours.imager, theirs.imager) == ("contimg", name)
    noise_jy = robust_noise(ours.residual)
    assert noise_jy == pytest.approx(robust_noise(theirs.residual), rel=0.03)
    fits = [
        find(one.image, np.full_like(one.image, noise_jy), one.wcs, one.beam, min_snr=20) for one in (ours, theirs)
    ]
    assert len(fits[0]) == len(fits[1]) == len(FIELD)
    for mine, other in zip(*fits, strict=True):
        assert mine.flux_jy == pytest.approx(other.flux_jy, rel=5e-3, abs=options.threshold_sigma * noise_jy)
        off = separation(*np.radians([mine.ra_deg, mine.dec_deg, other.ra_deg, other.dec_deg]))
        assert off < (0.02 + 0.3 / mine.snr) * ours.beam.major_rad


def test_wsclean_must_be_there(monkeypatch, tmp_path, noise):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"imaging\.imager: wsclean is not on the PATH"):
        imager.clean(noise, tmp_path / "field", OPTIONS, "wsclean")


def test_tclean_says_why_it_failed(tmp_path):
    with pytest.raises(ToolFailedError, match=r"no\.ms: tclean"):
        tclean.clean(tmp_path / "no.ms", tmp_path / "field", OPTIONS)


@pytest.mark.parametrize("size", [1, 15, 882, 1001, 3178, 4097])
def test_image_sizes_suit_the_fourier_transform(size):
    chosen = options.fft_size(size)
    assert size <= chosen <= 1.1 * size + 2
    assert chosen % 2 == 0
    for factor in (2, 3, 5):
        while chosen % factor == 0:
            chosen //= factor
    assert chosen == 1


def answer(value):
    print("this must not get into the answer")
    return value, os.environ["OMP_NUM_THREADS"]


def fail(kind):
    raise kind("as asked")


def die():
    os.kill(os.getpid(), 11)


def test_isolated_calls_answer_raise_and_die(capfd):
    assert subprocess_call.call(3, answer, {"a": np.arange(3)})[1] == "3"
    for kind in (DiskFullError, ValueError):
        with pytest.raises(kind, match="as asked"):
            subprocess_call.call(1, fail, kind)
    with pytest.raises(JobDiedError, match="die: its process was killed by SIGSEGV"):
        subprocess_call.call(1, die)


def test_casa_messages_become_typed_errors():
    table = {
        "Error in writing: No space left on device": DiskFullError,
        "Error in writing: Disk quota exceeded": DiskFullError,
        "std::bad_alloc": MemoryExhaustedError,
        "Data selection ended with 0 rows": NoUsableDataError,
        "something else": ToolFailedError,
    }
    for said, error in table.items():
        meant = tclean._meaning(Path("a.ms"), said)
        assert type(meant) is error
        assert isinstance(meant, ContimgError)
