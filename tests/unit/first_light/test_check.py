"""`contimg check-data`: a simulated group is all right, and whatever is wrong is named by its own line."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from datetime import date
from pathlib import Path

import h5py
import numpy as np
import pytest

from contimg.cli import main
from contimg.core.errors import NoUsableDataError
from contimg.core.sections import Beam, Calibration
from contimg.first_light import check, page, raw_group
from contimg.first_light.findings import Assessment, Assumption, Finding
from contimg.simulator import scenarios, simulator, sky
from contimg.simulator.gain_errors import Corruptions
from contimg.telescope import meridian, raw_header
from contimg.telescope.stations import EAST_WEST_ARM, NORTH_SOUTH_ARM

PRESET = simulator.Preset(EAST_WEST_ARM[::6] + NORTH_SOUTH_ARM[::6], 6)
"""14 antennas, six channels a subband, 24 integrations."""
CALIBRATOR = sky.calibrator("J0834+5534")


def simulated(folder: Path, **options: object) -> Path:
    """Simulate the calibrator's transit."""
    start = scenarios.start_for_transit(CALIBRATOR, date(2026, 1, 12), 0, PRESET.length_s)
    usual = {"preset": PRESET, "sky": [CALIBRATOR], "declination_deg": 54.57, "seed": 5}
    corruptions = Corruptions(delay_ns=4.0)
    simulator.simulate(folder / "incoming", start, 1, **{**usual, "corruptions": corruptions, **options})  # type: ignore[arg-type]
    return folder / "incoming"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulated(tmp_path_factory.mktemp("good"))


def found(folder: Path) -> dict[Assumption, Finding]:
    _, findings = check.check(folder, Calibration(), Beam())
    assert [finding.line for finding in findings] == list(Assumption)
    return {finding.line: finding for finding in findings}


def wrong(findings: dict[Assumption, Finding]) -> set[Assumption]:
    return {line for line, finding in findings.items() if finding.verdict is Assessment.WRONG}


def test_a_simulated_group_is_all_right(good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = {line: finding.verdict for line, finding in found(good).items()}
    assert {line for line, verdict in verdicts.items() if verdict is not Assessment.GOOD} == {Assumption.CADENCE}
    assert main(["check-data", str(good), "--page", str(tmp_path / "page.html")]) == 0
    assert "25 good, 1 unknown" in capsys.readouterr().out
    text = (tmp_path / "page.html").read_text()
    assert all(f"<td>{line}</td>" in text for line in Assumption)


def rename(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in list(folder.glob(f"*{old}*")):
            path.rename(path.with_name(path.name.replace(old, new)))

    return change


def edit(item: str, value: Callable[[np.ndarray], np.ndarray], only: str = "_sb") -> Callable[[Path], None]:
    """Change an item of the files whose names have a part; of the same shape it is written in place."""

    def change(folder: Path) -> None:
        for path in folder.glob(f"*{only}*"):
            with h5py.File(path, "r+") as file:
                old = file[item][()]
                new = value(old)
                if (np.shape(new), np.asarray(new).dtype) == (np.shape(old), np.asarray(old).dtype):
                    file[item][...] = new
                else:
                    del file[item]
                    file[item] = new

    return change


def swapped(folder: Path) -> None:
    for old, new in (("sb03", "sbxx"), ("sb04", "sb03"), ("sbxx", "sb04")):
        rename(old, new)(folder)


def truncated(folder: Path) -> None:
    path = next(folder.glob("*_sb07*"))
    os.truncate(path, path.stat().st_size // 2)


def first_moved(positions: np.ndarray) -> np.ndarray:
    positions[0, 1] += 1.0
    return positions


def second_group(folder: Path) -> None:
    for path in list(folder.glob("*_sb00*")):
        later = path.with_name("2026-01-12T23:00:00_sb00.hdf5")
        shutil.copyfile(path, later)
        edit("Header/time_array", lambda times: times + 200 / 86400, "T23:00:00")(folder)


def sent_twice(folder: Path) -> None:
    path = next(folder.glob("*_sb03*"))
    later = "2026-01-12T" + path.name[11:17] + f"{(int(path.name[17:19]) + 1) % 60:02d}_sb03.hdf5"
    shutil.copyfile(path, path.with_name(later))


def in_rows(
    folder: Path,
    which: Callable[[np.ndarray, np.ndarray], np.ndarray],
    value: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Change the visibilities of some pairs of antennas."""
    for path in folder.glob("*_sb*"):
        with h5py.File(path, "r+") as file:
            rows = which(*(file[f"Header/{name}"][()] for name in ("ant_1_array", "ant_2_array")))
            data = file["Data/visdata"][()]
            data[rows] = value(data[rows])
            file["Data/visdata"][...] = data


def louder_autos(folder: Path) -> None:
    in_rows(folder, lambda first, second: first == second, lambda data: data * np.float32(5))


def turned_randomly(data: np.ndarray) -> np.ndarray:
    """Turn every row by a phase of its own: cross-correlations whose fringes are lost."""
    turn = np.exp(2j * np.pi * np.random.default_rng(1).uniform(size=(len(data), 1, 1, 1)))
    return data * turn.astype(np.complex64)


def without_fringes(folder: Path) -> None:
    in_rows(folder, lambda first, second: first != second, turned_randomly)


def tracked(folder: Path) -> None:
    """Phases stopped on an ICRS direction, the group's middle, instead of the meridian."""
    for path in folder.glob("*_sb*"):
        with h5py.File(path, "r+") as file:
            head = {name: item[()] for name, item in file["Header"].items() if isinstance(item, h5py.Dataset)}
            rows, dec = int(head["Nbls"]), float(head["phase_center_app_dec"])
            times = head["time_array"][::rows]
            one, other = (head[name][:rows] for name in ("ant_1_array", "ant_2_array"))
            centre = meridian.group_centre(times, dec)
            following = meridian.icrs_uvw(head["antenna_positions"], times, *centre)[..., 2]
            moved_m = following - meridian.meridian_uvw(head["antenna_positions"], dec)[:, 2]
            delay_m = (moved_m[:, other] - moved_m[:, one]).ravel()[:, np.newaxis]
            turn = np.exp(-2j * np.pi * delay_m * np.ravel(head["freq_array"]) / 299792458.0)
            data = file["Data/visdata"][()]
            file["Data/visdata"][...] = (data * turn[:, np.newaxis, :, np.newaxis]).astype(np.complex64)


def recompressed(folder: Path) -> None:
    """A subband whose writer compresses."""
    with h5py.File(next(folder.glob("*_sb10*")), "r+") as file:
        data = file["Data/visdata"][()]
        del file["Data/visdata"]
        file.create_dataset("Data/visdata", data=data, compression="gzip", compression_opts=1)


def with_catalogue(folder: Path) -> None:
    """Phase centres as pyuvdata writes them today."""
    for path in folder.glob("*_sb*"):
        with h5py.File(path, "r+") as file:
            file["Header"].create_group("phase_center_catalog/0")["cat_type"] = np.bytes_("sidereal")


def padded(data: np.ndarray) -> np.ndarray:
    """Visibilities whose last integration was never filled."""
    data[-len(data) // 24 :] = np.nan
    return data


def third(flags: np.ndarray) -> np.ndarray:
    flags[::3] = True
    return flags


def odd(samples: np.ndarray) -> np.ndarray:
    samples[::5] = 40
    return samples


WRONG: list[tuple[Assumption, Callable[[Path], None]]] = [
    (Assumption.FILES, truncated),
    (Assumption.FILES, sent_twice),
    (Assumption.LAYOUT, recompressed),
    (Assumption.LAYOUT, edit("Data/visdata", lambda data: data.astype(np.complex128), "_sb04")),
    (Assumption.NAMES, rename("T09:", "T10:")),
    (Assumption.START, edit("Header/time_array", lambda times: times + 0.05 / 86400, "_sb05")),
    (Assumption.CLOCK, edit("Header/time_array", lambda times: times - times[0] + 2455000.5)),
    (Assumption.TELESCOPE, edit("Header/telescope_name", lambda _: np.bytes_("OVRO_LWA"))),
    (Assumption.TELESCOPE, edit("Header/antenna_diameters", lambda diameters: diameters + 0.35)),
    (Assumption.BANDS, swapped),
    (Assumption.CHANNELS, edit("Header/freq_array", lambda frequencies: frequencies[:, ::-1], "_sb09")),
    (Assumption.INTEGRATION, edit("Header/integration_time", lambda times: times * 1.5)),
    (Assumption.CADENCE, second_group),
    (Assumption.POLARIZATIONS, edit("Header/polarization_array", lambda _: np.array([-5, -7]), "_sb02")),
    (Assumption.STATIONS, edit("Header/antenna_positions", first_moved)),
    (Assumption.BASELINES, edit("Header/ant_1_array", lambda numbers: np.roll(numbers, 1), "_sb11")),
    (Assumption.DECLINATION, edit("Header/phase_center_app_dec", lambda declination: declination + np.radians(0.1))),
    (Assumption.PHASE_CENTRE, edit("Header/phase_type", lambda _: np.bytes_("phased"))),
    (Assumption.PHASE_CENTRE, with_catalogue),
    (Assumption.UVW, edit("Header/uvw_array", lambda uvw: -uvw)),
    (Assumption.FLAGS, edit("Data/flags", third, "_sb01")),
    (Assumption.NSAMPLES, edit("Data/nsamples", odd, "_sb06")),
    (Assumption.VALUES, edit("Data/visdata", np.zeros_like, "_sb08")),
    (Assumption.VALUES, edit("Data/visdata", padded, "_sb03")),
    (Assumption.LEVELS, edit("Data/visdata", lambda data: data * np.float32(30), "_sb12")),
    (Assumption.NOISE, louder_autos),
    (Assumption.FRINGE_STOPPING, edit("Data/visdata", np.conj)),
    (Assumption.FRINGE_STOPPING, without_fringes),
    (Assumption.POSITION, edit("Header/time_array", lambda times: times - 600 / 86400)),
]


@pytest.mark.parametrize(("line", "change"), WRONG, ids=[f"{line} {k}" for k, (line, _) in enumerate(WRONG)])
def test_what_is_wrong_is_named_by_its_line(
    line: Assumption, change: Callable[[Path], None], good: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    change(folder)
    findings = found(folder)
    assert line in wrong(findings)
    assert findings[line].to_set
    assert f"wrong    {line}" in page.text("group", list(findings.values()))


def test_a_tracked_phase_centre_is_told_by_name(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    tracked(folder)
    finding = found(folder)[Assumption.FRINGE_STOPPING]
    assert finding.verdict is Assessment.WRONG
    shares = dict(re.findall(r"(stopped on the meridian|conjugated|tracked) (-?\d+) σ", finding.found))
    assert int(shares["tracked"]) > 10 * abs(int(shares["conjugated"]))


def test_every_line_has_its_wrong_thing() -> None:
    simulated_ones = {Assumption.ANTENNAS, Assumption.CALIBRATION, Assumption.UNITS}
    assert {line for line, _ in WRONG} | simulated_ones == set(Assumption)


def test_silent_antennas_are_named(tmp_path: Path) -> None:
    dead = PRESET.antennas[1:7]
    named = ", ".join(str(number + 1) for number in dead)
    silent = found(simulated(tmp_path / "zeros", dead=simulator.DeadAntennas(dead, zeros=True)))
    assert silent[Assumption.ANTENNAS].verdict is Assessment.WRONG
    assert silent[Assumption.ANTENNAS].found == f"6 of 14 silent: {named}"
    deaf = found(simulated(tmp_path / "noise", dead=simulator.DeadAntennas(dead)))
    assert wrong(deaf) == {Assumption.CALIBRATION}
    assert f"8 of 14 (none: {named})" in deaf[Assumption.CALIBRATION].found


def test_a_sensitivity_that_is_off_is_told(tmp_path: Path) -> None:
    assert wrong(found(simulated(tmp_path, noise=simulator.Noise(sefd_jy=18000.0)))) == {Assumption.UNITS}


def test_older_files_are_named_as_such(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    edit("Header/integration_time", lambda times: np.full_like(times, 0.134217728))(folder)
    for path in folder.glob("*"):
        with h5py.File(path, "r+") as file:
            del file["Header/phase_center_app_dec"]
    findings = found(folder)
    older = {line for line, finding in findings.items() if finding.verdict is Assessment.OLDER}
    assert older == {Assumption.INTEGRATION, Assumption.DECLINATION}
    assert wrong(findings) == set()
    assert "an older writer" in findings[Assumption.DECLINATION].found


def test_other_groups_of_the_folder_are_neither_judged_nor_read(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A group of the night before was cut off in its transfer: of it a start is read, for the cadence."""
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    for path in sorted(folder.glob("*_sb*")):
        before = shutil.copyfile(path, path.with_name(path.name.replace("T09:", "T05:")))
        if "_sb07" in path.name:
            os.truncate(before, 5000)
    for path in folder.glob("*T05:*_sb15*"):
        path.rename(path.with_stem(f"{path.stem}_incomplete"))
    edit("Header/time_array", lambda times: times - 4 / 24, "T05:*_sb0[0-6]")(folder)
    looked_at: list[str] = []

    def opened(path: Path) -> object:
        looked_at.append(path.name)
        return raw_header.opened(path)

    monkeypatch.setattr(raw_group, "opened", opened)
    findings = found(folder)
    assert wrong(findings) == set()
    assert findings[Assumption.FILES].found == "16 subbands"
    assert findings[Assumption.CADENCE].found.startswith("1 steps of 14400.0")
    assert len([name for name in looked_at if "T05:" in name]) == 1


def test_a_name_of_another_time_is_its_group_s(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    path = next(folder.glob("*_sb05*"))
    path.rename(path.with_name(f"2026-01-12T13:00:00{path.name[19:]}"))
    assert wrong(found(folder)) == {Assumption.NAMES}


def test_exit_codes_tell_scripts(good: Path, tmp_path: Path) -> None:
    folder = tmp_path / "incoming"
    shutil.copytree(good, folder)
    last = next(folder.glob("*_sb15*"))
    last.rename(last.with_stem(f"{last.stem}_incomplete"))
    assert (
        found(folder)[Assumption.FILES].found
        == f"15 subbands, without sb15; 1 passed over, as {last.stem}_incomplete.hdf5"
    )
    assert main(["check-data", str(folder)]) == 3
    assert main(["check-data", str(tmp_path)]) == 1
    with pytest.raises(NoUsableDataError, match="no raw file can be read"):
        found(tmp_path)
