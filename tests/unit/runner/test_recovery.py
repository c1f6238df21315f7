"""What a starting runner finds after its predecessor was killed, and what it makes of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from bookkeeping import NOW, Played, runner_of
from slurm_commands import SlurmCommands

from contimg.core import config, files, processes
from contimg.core.errors import ClusterAwayError
from contimg.core.processes import MARK
from contimg.execute import slurm
from contimg.execute.lease import mark_of
from contimg.ingest import quarantine
from contimg.job.attempt_record import AttemptRecord
from contimg.runner import cleanup
from contimg.runner.recovery import RecoverySettings, recover

DEAD = 999_999


@pytest.fixture
def played(tmp_path: Path) -> Played:
    return Played(tmp_path / "data", staging={"directory": str(tmp_path / "shm")})


def recovered(played: Played):
    played.ledger.close()
    return recover(played.root, played.settings.part(RecoverySettings), lambda: None, NOW)


def test_calls_of_a_dead_runner_end_and_count_for_nothing(played: Played) -> None:
    unit = played.arrive(0)
    played.record("detect", unit, "running", pid=DEAD)
    played.ledger.add_call(DEAD, "detect", [unit], 1.0)
    played.change(unit, due=5e9)
    ledger = recovered(played)
    assert ledger.rows("SELECT * FROM calls") == []
    assert ledger.group(unit).due == 0
    assert ledger.failures(unit, 0) == {}
    assert files.read_json(played.root.attempt(unit, "detect", 1))["error_class"] == "died"


def test_what_was_half_done_goes_and_what_is_at_work_stays(played: Played, tmp_path: Path) -> None:
    unit, shm = played.arrive(0), tmp_path / "shm"
    inode, own = played.root.root.stat().st_ino, psutil.Process()
    shm.mkdir()
    stale, live, foreign = (
        shm / f"contimg-{inode}-{DEAD}-1",
        shm / f"contimg-{inode}-{own.pid}-{processes.start_time(own.pid)}",
        shm / f"contimg-{inode + 1}-{DEAD}-1",
    )
    for folder in (stale, live, foreign):
        folder.mkdir()
    images, sets = played.root.image(unit).parent, played.root.calibration(unit)
    images.mkdir(parents=True)
    sets.mkdir(parents=True)
    gone = [
        images / f".{unit}.image.fits.part-{DEAD}",
        images / f".{unit}.image.fits.part-{DEAD}-a1b2c3",
        sets / f".gain.cal.part-{DEAD}",
        sets / f".gain.cal.old-{DEAD}",
        images / f".{unit}.image.fits.part-{files.host()}.{DEAD}-a1b2c3",
        images / f".{unit}.pb.fits.part-n1.{own.pid}",  # its job was on a node, and is over
    ]
    kept = [
        images / f".{unit}.noise.fits.part-{own.pid}",
        images / f".{unit}.noise.fits.part-{files.host()}.{own.pid}",
        images / ".20200101T000000.image.fits.part-x",
        sets / "gain.cal",
    ]
    for path in (*gone, *kept):
        path.mkdir()
    recovered(played)
    assert not any(path.exists() for path in (*gone, stale))
    assert all(path.exists() for path in (*kept, live, foreign))


def test_folders_that_are_read_only_stop_no_start(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a dead job left stays, and its end is in the ledger."""
    unit = played.arrive(0)
    played.record("detect", unit, "running", pid=DEAD)
    played.ledger.add_call(DEAD, "detect", [unit], 1.0)
    left = played.root.image(unit).parent / f".{unit}.image.fits.part-{DEAD}"
    left.mkdir(parents=True)

    def refused(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(AttemptRecord, "write", refused)
    monkeypatch.setattr(files, "remove", refused)
    ledger = recovered(played)
    assert left.exists()
    assert ledger.rows("SELECT outcome, error_class FROM attempts") == [("failed", "died")]
    assert ledger.rows("SELECT * FROM calls") == []


def test_processes_that_were_left_are_killed(played: Played) -> None:
    orphan = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {MARK: f"{mark_of(played.root)}1"}
    )
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env=os.environ | {MARK: "1-1:1"})
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and cleanup.kill_orphans(played.root) == 0:
        time.sleep(0.05)
    assert orphan.wait(5) == -9
    assert other.poll() is None
    other.kill()
    other.wait()


@pytest.fixture
def queue(played: Played, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    """Slurm's queue, for a runner that hands its jobs there."""
    profile = tmp_path / "profile"
    profile.mkdir()
    (profile / "profile.yaml").write_text("executor: slurm\n")
    section = played.settings.runner.model_copy(update={"profile": profile})
    played.settings = played.settings.model_copy(update={"runner": section})
    monkeypatch.setattr("contimg.runner.cleanup._LOOK_S", 0.01)
    return SlurmCommands(tmp_path / "slurm", monkeypatch)


def test_jobs_of_a_dead_runner_are_cancelled_before_anything_starts(played: Played, queue: SlurmCommands) -> None:
    """Slurm is away at first; a job ends between look and cancel; another user's ends when that user cancels it."""
    ours = slurm.name_prefix(played.root)
    queue.add(1, f"{ours}1-1-x")
    queue.add(2, f"{ours}1-2-x", "PENDING")
    queue.add(3, f"{ours}2-1-x", user="root")
    queue.add(4, "contimg-other-1-1-x")
    queue.run("touch", "away")
    queue.meanwhile(*queue.remove(1))
    looks = iter([("rm", "away"), queue.remove(3)])
    said = []

    def keep() -> None:
        if command := next(looks, None):
            queue.run(*command)
        said.append(queue.numbers)

    recover(played.root, played.settings.part(RecoverySettings), keep, NOW)
    assert said == [[1, 2, 3, 4], [4]]
    assert queue.cancelled == [2]


def test_a_runner_whose_predecessor_s_jobs_do_not_end_does_not_start(
    played: Played, queue: SlurmCommands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("contimg.runner.cleanup._QUEUE_S", 0.0)
    queue.add(3, f"{slurm.name_prefix(played.root)}2-1-x", user="root")
    with pytest.raises(ClusterAwayError, match=r"3 \(running, of root\)"):
        recovered(played)
    queue.run("touch", "away")
    with pytest.raises(ClusterAwayError, match="Unable to contact"):
        recovered(played)


def test_a_process_that_may_be_about_to_submit_dies_before_the_look_at_the_queue(
    played: Played, queue: SlurmCommands, tmp_path: Path
) -> None:
    """A sbatch goes on when its Snakemake is killed."""
    sbatch = subprocess.Popen(["sleep", "60"], env=os.environ | {MARK: f"{mark_of(played.root)}1"})
    queue.meanwhile("cp", f"/proc/{sbatch.pid}/cmdline", f"{tmp_path}/lived")
    recovered(played)
    assert (tmp_path / "lived").read_text() == ""
    assert sbatch.wait(5) == -9


def test_calls_that_were_handed_over_go_on(played: Played, queue: SlurmCommands) -> None:
    """Their processes, Slurm jobs, attempts and partial outputs stay; those of other calls do not."""
    kept, lost = played.arrive(0), played.arrive(1)
    calls, parts = {}, {}
    for number, unit in enumerate((kept, lost)):
        mark = {MARK: f"{mark_of(played.root)}1"}
        process = subprocess.Popen(["sleep", "60"], env=os.environ | mark, start_new_session=True)
        prefix = slurm.name_prefix(played.root, 1, number)
        queue.add(number, f"{prefix}x")
        played.record("detect", unit, "running", pid=DEAD)
        played.ledger.add_call(process.pid, "detect", [unit], 1.0)
        played.change(unit, due=5e9)
        parts[unit] = played.root.calibrator(unit).with_name(".calibrator.json.part-n1.7")
        parts[unit].parent.mkdir(parents=True)
        parts[unit].touch()
        calls[unit] = process, replace(played.started("detect", unit), pid=process.pid, slurm_jobs=prefix)
    played.ledger.close()
    ledger = recover(played.root, played.settings.part(RecoverySettings), lambda: None, NOW, [calls[kept][1]])
    assert calls[lost][0].wait(5) == -9
    assert calls[kept][0].poll() is None
    assert (queue.numbers, queue.cancelled) == ([0], [1])
    assert (ledger.group(kept).due, ledger.group(lost).due) == (5e9, 0)
    assert [path.exists() for path in parts.values()] == [True, False]
    records = [files.read_json(played.root.attempt(unit, "detect", 1)) for unit in (kept, lost)]
    assert [record["outcome"] for record in records] == ["running", "failed"]
    calls[kept][0].kill()
    calls[kept][0].wait()


def test_a_way_into_quarantine_that_was_cut_short(played: Played) -> None:
    """The files were on their way, the row was not written."""
    unit = played.arrive(0)
    raw = quarantine.raw_files(played.root, unit)
    quarantine.put(played.root, unit, raw[:8], reason="it failed", error_class="other", stage="convert")
    content = files.read_json(played.root.quarantine(unit) / quarantine.REASON)
    content["files"] += [{"name": path.name, "from": f"incoming/{path.name}"} for path in raw[8:]]
    files.write_json(played.root.quarantine(unit) / quarantine.REASON, content)
    row = recovered(played).group(unit)
    assert (row.state, row.stage, row.reason) == ("quarantined", "convert", "it failed")
    assert list(played.root.incoming.iterdir()) == []


def test_a_reason_that_was_lost_is_written_again(played: Played) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit, error_class="corrupt_input", message="it is bad")
    before = quarantine.entry(played.root, unit)
    (played.root.quarantine(unit) / quarantine.REASON).write_text("")
    recovered(played)
    after = quarantine.entry(played.root, unit)
    assert (after.reason, after.error_class, set(after.names)) == (
        before.reason,
        before.error_class,
        set(before.names),
    )


@pytest.mark.parametrize("ledger", ["there", "lost"])
@pytest.mark.parametrize("said", [b"", b"\x00" * 300, b"[]", b"{}"])
def test_it_starts_whatever_a_power_cut_made_of_the_files(played: Played, said: bytes, ledger: str) -> None:
    played.whole_way(0, "3C48")
    played.arrive(1, "collecting")
    played.failed("detect", played.arrive(2), error_class="corrupt_input")
    failing = played.arrive(3)
    played.failed("detect", failing, error_class="disk_full")
    played.ledger.add_call(DEAD, "detect", [failing], 1.0)
    for path in played.root.root.rglob("*.json"):
        path.write_bytes(said)
    if ledger == "lost":
        played.root.ledger.unlink()
    states = {state for (state,) in recovered(played).rows("SELECT state FROM groups")}
    assert states == ({"done", "collecting", "quarantined", "due"} if ledger == "there" else set())


def test_a_clock_put_back_while_no_runner_ran_delays_nothing(played: Played) -> None:
    unit, now = played.arrive(0), time.time()
    runner_of(played).settle_calls()
    (played.root.state / "runner.lock").unlink()
    assert played.ledger.note("clock") == pytest.approx(now, abs=60)
    played.ledger.set_note("clock", now + 3600)
    played.change(unit, due=now + 3700)
    runner_of(played)
    assert played.ledger.group(unit).due == pytest.approx(now + 100, abs=60)


def test_what_failed_for_want_of_room_is_due_when_a_runner_starts_and_there_is_some(played: Played) -> None:
    unit = played.arrive(0)
    played.failed("detect", unit, now=time.time(), error_class="disk_full")
    assert played.ledger.group(unit).due > time.time() + 200
    played.settings = config.validated({"data_root": str(played.root.root), "runner": {"reserve_gb": 0}}, {})
    runner_of(played)._start()
    assert played.ledger.group(unit).due == 0
