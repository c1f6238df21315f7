"""Slurm's word on how a job ended, as Snakemake's plugin prints it, and the names of a data root's jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_commands import SlurmCommands

from contimg.core.errors import (
    Blame,
    ClusterAwayError,
    JobDiedError,
    JobStarvedError,
    MemoryExhaustedError,
)
from contimg.core.paths import DataRoot
from contimg.execute import slurm

OTHER = "SLURM-job '6' failed, SLURM status is: 'CANCELLED'."


def call_log(folder: Path, state: str, said: str = "") -> Path:
    """What Snakemake printed of a job 7, and the job's own output."""
    output = folder / "7.log"
    output.write_text(said)
    log = folder / "call.log"
    lines = [f"Job 1 has been submitted with SLURM jobid 7 (log: {output}).", OTHER]
    failed = "failed due to a node failure" if state == "NODE_FAIL" else "failed"
    log.write_text("\n".join([*lines, f"SLURM-job '7' {failed}, SLURM status is: '{state}'. Detailed reason …"]))
    return log


@pytest.mark.parametrize(
    ("state", "said", "error"),
    [
        ("TIMEOUT", "", JobStarvedError),
        ("OUT_OF_MEMORY", "", MemoryExhaustedError),
        ("CANCELLED", "", JobDiedError),
        ("NODE_FAIL", "", JobDiedError),
        ("PREEMPTED", "", JobDiedError),
        ("FAILED", "slurmstepd: error: StepId=7.0 exceeded memory limit (9 > 5), being killed", MemoryExhaustedError),
        ("FAILED", "slurmstepd: error: Detected 1 oom-kill event(s) in StepId=7.0", MemoryExhaustedError),
        (
            "FAILED",
            "slurmstepd: error: *** STEP 7.0 ON n1 CANCELLED AT 2026-11-29T02:00 DUE TO TIME LIMIT ***",
            JobStarvedError,
        ),
        ("FAILED", "insufficient unflagged antennas", type(None)),
    ],
)
def test_a_job_s_end_has_the_class_that_it_deserves(tmp_path: Path, state: str, said: str, error: type) -> None:
    log = call_log(tmp_path, state, said)
    assert type(slurm.cause_of_end(log, "7")) is error
    assert type(slurm.cause_of_end(log, "6")) is JobDiedError
    assert slurm.cause_of_end(log, "8") is None
    assert slurm.submitted_jobs(log) == {"7": tmp_path / "7.log"}


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("slurmstepd-n1: error: StepId=7.1 exceeded memory limit (589 > 524), being killed", MemoryExhaustedError),
        (
            "slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T02:00 DUE TO TIME LIMIT ***",
            JobStarvedError,
        ),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T02:00 DUE TO PREEMPTION ***", JobDiedError),
        ("slurmstepd: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-29T02:00 ***", type(None)),
    ],
)
@pytest.mark.parametrize("number", ["7", ""])
def test_a_job_of_several_rules_has_its_end_in_its_output(
    tmp_path: Path, said: str, error: type, number: str
) -> None:
    """Of such a job Snakemake prints no state: one over its memory had died without a word, and so for every try."""
    output, log = tmp_path / "7.log", tmp_path / "call.log"
    output.write_text(said)
    log.write_text(f"Job 1 has been submitted with SLURM jobid 7 (log: {output}).\nmessage: Error in group imaging")
    assert type(slurm.cause_of_end(log, number)) is error


def test_a_job_is_known_however_much_was_printed_after_it_was_submitted(tmp_path: Path) -> None:
    """The line that it was submitted was looked for in the last 20 kB."""
    log = call_log(tmp_path, "TIMEOUT")
    log.write_text(log.read_text() + "\nreason: of another rule" * 2000)
    assert slurm.submitted_jobs(log) == {"7": tmp_path / "7.log"}
    assert type(slurm.cause_of_end(log, "7")) is JobStarvedError


def test_jobs_are_told_by_root_lease_and_call(tmp_path: Path) -> None:
    root, other = DataRoot(tmp_path / "a"), DataRoot(tmp_path / "b")
    call = slurm.name_prefix(root, 1, 12)
    assert call.startswith(slurm.name_prefix(root, 1))
    assert call.startswith(slurm.name_prefix(root))
    assert not call.startswith((slurm.name_prefix(root, 11), slurm.name_prefix(root, 1, 1), slurm.name_prefix(other)))
    assert len(slurm.name_prefix(root, 10**6, 10**9)) <= 50


def test_a_cluster_that_does_not_answer_is_the_machine_s_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterAwayError, match=r"^squeue: does not answer") as refused:
        slurm.jobs("contimg-")
    assert refused.value.blame is Blame.MACHINE


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SlurmCommands:
    return SlurmCommands(tmp_path / "slurm", monkeypatch)


def test_jobs_of_others_and_of_other_roots_stay(commands: SlurmCommands) -> None:
    commands.add(1, "contimg-a-1-1-x")
    commands.add(2, "contimg-b-1-1-x")
    commands.add(3, "contimg-a-1-2-x", user="root")
    assert [job.number for job in slurm.cancel("contimg-a-")] == ["1"]
    assert (commands.numbers, commands.cancelled) == ([2, 3], [1])


def test_a_job_that_ends_between_look_and_cancel_is_no_error(commands: SlurmCommands) -> None:
    commands.add(1, "contimg-a-1-1-x")
    commands.add(2, "contimg-a-1-2-x")
    commands.meanwhile(*commands.remove(1))
    assert [job.number for job in slurm.cancel("contimg-a-")] == ["1", "2"]
    assert commands.cancelled == [2]
    assert slurm.cancel("contimg-a-") == []


def test_a_cancel_that_slurm_does_not_answer_is_told(commands: SlurmCommands) -> None:
    commands.add(1, "contimg-a-1-1-x")
    commands.meanwhile("touch", "away")
    with pytest.raises(ClusterAwayError, match="Unable to contact slurm controller"):
        slurm.cancel("contimg-a-")
    assert commands.numbers == [1]


def test_a_cancel_that_is_refused_names_job_and_user(commands: SlurmCommands) -> None:
    commands.add(1, "contimg-a-1-1-x")
    commands.add(3, "contimg-a-1-2-x", user="root")
    with pytest.raises(ClusterAwayError, match=r"Slurm jobs 3 \(running, of root\): are not cancelled .*denied"):
        slurm.cancel("contimg-a-", of_all_users=True)
    assert commands.cancelled == [1]
