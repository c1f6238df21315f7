"""`contimg simulate`: what is asked for in the sky is there, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from simulated_files import predicted, read
from sky_lists import sky_of

from contimg.catalogues.source import Source
from contimg.cli import main
from contimg.simulator import sky
from contimg.simulator.simulator import SMALL, TrueGains
from contimg.telescope import dsa110

HEAD = "name,ra_deg,dec_deg,flux_jy,spectral_index\n"
LISTED = (
    Source("A", 130.1, 54.1, 3.0, -0.5),
    Source("B", 128.0, 55.5, 1.25, 0.2),
    Source("L4", 127.0, 53.9, 2.0, -0.7),
)
LIST = HEAD + "A,130.1,54.1,3,-0.5\nB,128,55.5,1.25,0.2\n,127,53.9,2,\n"
ONE_SUBBAND = ("--groups", "1", "--before", "0", "--fault", "missing:0:0,1,2,3,4,5,6,8,9,10,11,12,13,14,15")


def simulated(directory: Path, *arguments: str) -> dict[str, Any]:
    """The truth of one file that the command writes, subband 7 of the group of the transit."""
    command = [sys.executable, "-m", "contimg", "simulate", str(directory / "incoming"), *ONE_SUBBAND, *arguments]
    said = subprocess.run(command, check=True, capture_output=True, text=True)
    assert said.stdout == f"1 groups in {directory / 'incoming'}, the truth in {directory / 'truth.json'}\n"
    return json.loads((directory / "truth.json").read_text())


def listed(directory: Path, text: str = LIST) -> Path:
    path = directory / "sky.csv"
    path.write_text(text)
    return path


@pytest.mark.filterwarnings("ignore:Recalculating uvw_array")
def test_the_sources_of_a_list_and_no_others(tmp_path: Path) -> None:
    truth = simulated(tmp_path, "--sky", str(listed(tmp_path)), "--calibrator", "A", "--sefd", "0")
    assert truth["sky"] == [asdict(source) for source in LISTED]
    data = read(tmp_path / "incoming" / truth["groups"][0]["files"][7])
    expected = sum(predicted(data, source, truth["declination_deg"]) for source in LISTED)
    gains = TrueGains.from_dict(truth["gains"])
    times_mjd_s, moment = np.unique((data.time_array - 2400000.5) * 86400, return_inverse=True)
    value = gains.evaluate(times_mjd_s, dsa110.subband_frequencies(7, SMALL.channels))
    place = {int(number): index for index, number in enumerate(gains.antennas)}
    first, second = (
        value[moment, [place[number] for number in antennas]] for antennas in (data.ant_1_array, data.ant_2_array)
    )
    cross = data.ant_1_array != data.ant_2_array
    difference = np.abs(data.data_array - first.conj() * second * expected)[cross]
    assert difference.max() < 1e-5 * np.abs(expected).max()
    # A is in the middle of the beam when its transit is amid the group.
    assert np.abs(data.lst_array.mean() - np.radians(LISTED[0].ra_deg)) < np.radians(0.5)


def test_the_calibrator_alone(tmp_path: Path) -> None:
    truth = simulated(tmp_path, "--sky", "calibrator")
    assert truth["sky"] == [asdict(sky.calibrator("J0834+5534"))]


def test_random_sources_alone_beside_the_calibrator_and_beside_a_list(tmp_path: Path) -> None:
    random = simulated(tmp_path, "--sky", "random", "--min-flux", "0.2")["sky"]
    assert 10 < len(random) < 100
    assert all(0.2 <= source["flux_jy"] <= 1.0 and source["name"].startswith("R") for source in random)
    calibrator = asdict(sky.calibrator("J0834+5534"))
    assert simulated(tmp_path, "--min-flux", "0.2")["sky"] == [calibrator, *random]
    both = simulated(tmp_path, "--sky", f"{listed(tmp_path)},calibrator,random", "--min-flux", "0.2")["sky"]
    assert both == [calibrator, *(asdict(source) for source in LISTED), *random]


def test_the_list_of_a_simulation_serves_as_sky_catalogue(tmp_path: Path) -> None:
    catalogue = sky_of(listed(tmp_path, LIST))
    by_declination = sorted(LISTED, key=lambda source: source.dec_deg)
    assert catalogue.ra_deg.tolist() == [source.ra_deg for source in by_declination]
    assert catalogue.flux_jy == pytest.approx([source.flux_jy for source in by_declination])


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, ": cannot be read (No such file or directory)"),
        ("", ": is empty; it needs the columns ra_deg, dec_deg, flux_jy"),
        (HEAD, ": holds no source"),
        ("name,ra_deg,flux_jy\nA,1,2\n", ", line 1: no column dec_deg"),
        (HEAD + "A,1,2,3,0\nB,1,2,bright,0\n", ", line 3: flux_jy is 'bright', not a number"),
        (HEAD + "A,1,2,,0\n", ": holds no source"),
        (HEAD + "A,1,2,3,steep\n", ", line 2: spectral_index is 'steep', not a number"),
        (HEAD + "A,360,2,3,0\n", ", line 2: the position is not on the sky"),
        (HEAD + "A,-0.1,2,3,0\n", ", line 2: the position is not on the sky"),
        (HEAD + "A,1,91,3,0\n", ", line 2: the position is not on the sky"),
        (HEAD + "A,1,2,-3,0\n", ", line 2: flux_jy is negative"),
        (HEAD + "A,1,2,3\n", ", line 2: 4 cells under 5 columns"),
    ],
)
def test_a_bad_list_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str | None, what: str
) -> None:
    path = tmp_path / "sky.csv" if text is None else listed(tmp_path, text)
    assert main(["simulate", str(tmp_path / "data/incoming"), "--sky", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"contimg: {path}{what}")
    assert said.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_a_calibrator_that_nobody_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--sky", str(listed(tmp_path)), "--calibrator", "C"]
    assert main(["simulate", str(tmp_path / "data/incoming"), *arguments]) == 1
    assert capsys.readouterr().err.startswith("contimg: C: no such calibrator")


@pytest.mark.parametrize(
    ("option", "value"), [("groups", "0"), ("before", "-1"), ("sefd", "-6500"), ("rfi", "-2"), ("name-spread", "nan")]
)
def test_an_impossible_number_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, value: str
) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", str(tmp_path / "data/incoming"), f"--{option}={value}"])
    assert f"argument --{option}: {value}: at least" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
