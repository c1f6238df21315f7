"""Slurm's queue: jobs of a data root found and cancelled, and the ends of a call's jobs.

Snakemake submits the jobs and waits for them. Their names begin with the data root's and the call's, so that all
can be found when Snakemake or the runner has died. Only `squeue` and `scancel` are called: they need no accounting.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from contimg.core import processes
from contimg.core.errors import (
    ClusterAwayError,
    ContimgError,
    JobDiedError,
    JobStarvedError,
    MemoryExhaustedError,
)
from contimg.core.paths import DataRoot
from contimg.job.error_patterns import recognized

_LIMIT_S = 20.0
"""Longest wait (s) for slurmctld's answer."""
_REMEMBERED_S = 3600
"""Value (s) that the plugin gets for Slurm's MinJobAge; `contimg check-cluster` tests the real value."""
_WAITING = frozenset({"PENDING", "CONFIGURING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD"})
_ENDING = "COMPLETING"
"""State of a cancelled job until its node has ended the processes."""
_SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: (.+?)\)")
_ENDED = re.compile(r"SLURM-job '(\d+)' failed.{0,80}?SLURM status is: '(\w+)'", re.DOTALL)
_SAID = re.compile(r"CANCELLED AT \S+ DUE TO (TIME LIMIT|PREEMPTION|NODE FAILURE)")
_ENDED_IN_OUTPUT = {"TIME LIMIT": "TIMEOUT", "PREEMPTION": "PREEMPTED", "NODE FAILURE": "NODE_FAIL"}
"""States by Slurm's words in a job's output: of a job of several rules, Snakemake's log gives no state,
and a job whose last step was ended may be FAILED to Slurm."""
_STATES: dict[str, tuple[type[ContimgError], str]] = {
    "TIMEOUT": (JobStarvedError, "was ended by Slurm: it did not keep its own, shorter time limit"),
    "DEADLINE": (JobStarvedError, "was ended by Slurm at its deadline"),
    "OUT_OF_MEMORY": (MemoryExhaustedError, "took more memory than it had asked Slurm for"),
    "CANCELLED": (JobDiedError, "was cancelled in Slurm"),
    "PREEMPTED": (JobDiedError, "was preempted by another job of Slurm's"),
    "NODE_FAIL": (JobDiedError, "was lost with its node"),
    "BOOT_FAIL": (JobDiedError, "was lost: its node did not start"),
}
_TAIL_BYTES = 20_000
"""Length (bytes) of the end of a job's output that is searched; Snakemake's log names jobs from its beginning."""


@dataclass(frozen=True)
class SlurmJob:
    """Job in Slurm's queue: waiting, running or just ending."""

    number: str
    name: str
    state: str
    user: str

    @property
    def pending(self) -> bool:
        """Whether the job waits for resources."""
        return self.state in _WAITING

    def __str__(self) -> str:
        return f"{self.number} ({self.state.lower()}, of {self.user})"


def name_prefix(root: DataRoot, lease: int | None = None, call: int | None = None) -> str:
    """Name prefix of a data root's jobs, of the jobs under one lease, or of the jobs of one call.

    The prefix is a hash of the path, which is the same on all hosts, in characters that the plugin accepts.
    """
    place = hashlib.blake2b(str(root.root).encode(), digest_size=6).hexdigest()
    return "-".join(["contimg", place, *(str(number) for number in (lease, call) if number is not None), ""])


def jobs(*prefixes: str, of_all_users: bool = False) -> list[SlurmJob]:
    """Jobs of this user, or of all users, by name prefixes.

    Raises
    ------
    ClusterAwayError
        If Slurm does not answer.
    """
    whose = () if of_all_users else ("--me",)
    lines = _asked("squeue", *whose, "--noheader", "--format=%i|%T|%u|%j").splitlines()
    found = (
        SlurmJob(number, name, state, user) for number, state, user, name in (line.split("|", 3) for line in lines)
    )
    return [job for job in found if job.name.startswith(prefixes)]


def cancel(*prefixes: str, of_all_users: bool = False, spared: Sequence[str] = ()) -> list[SlurmJob]:
    """Cancel jobs by name prefixes; returns the jobs that still existed, for another look.

    Parameters
    ----------
    spared
        Name prefixes of jobs among them that stay.

    Raises
    ------
    ClusterAwayError
        If Slurm does not answer, or refuses to cancel a job.
    """

    def there() -> list[SlurmJob]:
        found = jobs(*prefixes, of_all_users=of_all_users)
        return [job for job in found if not job.name.startswith(tuple(spared))]

    found = there()
    if found:
        try:
            _asked("scancel", *(job.number for job in found))
        except ClusterAwayError as error:
            # A job that ended since the look is an error to scancel.
            refused = [job for job in there() if job.state != _ENDING]
            if refused:
                raise ClusterAwayError(
                    f"Slurm jobs {told(refused)}: are not cancelled ({error}); scancel them"
                ) from error
    return found


def told(found: Iterable[SlurmJob]) -> str:
    """Numbers, states and users of jobs, for a message."""
    return ", ".join(map(str, found))


def submitted_jobs(log: Path) -> dict[str, Path]:
    """Ids of the jobs that a call has submitted, from Snakemake's log, with their output files."""
    return {number: Path(path) for number, path in _SUBMITTED.findall(_text(log, whole=True))}


def cause_of_end(log: Path, number: str = "") -> ContimgError | None:
    """External cause of a job's end (empty number: any job of the call); None if the log gives none.

    Parameters
    ----------
    log
        Log of Snakemake.
    """
    outputs, states = submitted_jobs(log), dict(_ENDED.findall(_text(log, whole=True)))
    for job in [number] if number else [*{**outputs, **states}]:
        output = _text(outputs.get(job))
        state = states.get(job, "")
        if state not in _STATES and (said := _SAID.search(output)):
            state = _ENDED_IN_OUTPUT[said[1]]
        if state in _STATES:
            error, what = _STATES[state]
            return error(f"Slurm job {job} {what}; it is due again")
        found = recognized(output.splitlines(), passing=True)
        if found and found.pattern.error is MemoryExhaustedError:
            return MemoryExhaustedError(f"Slurm job {job} took more memory than it had asked for; it is due again")
    return None


def poll_at_fixed_interval() -> None:
    """Make Snakemake, in this process, poll its jobs every `seconds-between-status-checks` of the profile.

    The plugin lengthens the interval by 10 s per poll, up to 3 min: a call of one job would end half as late again.
    When slurmctld is away, it turns from squeue to sacct, which answers only with accounting, and forgets its jobs.
    """
    import snakemake_executor_plugin_slurm as plugin  # noqa: PLC0415 — an extra
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor  # noqa: PLC0415 — as Snakemake

    async def sleep(executor: RemoteExecutor) -> None:
        await asyncio.sleep(executor.workflow.remote_execution_settings.seconds_between_status_checks)

    RemoteExecutor.sleep = sleep
    plugin.get_min_job_age = lambda: _REMEMBERED_S


def _asked(*command: str) -> str:
    try:
        done = processes.output(command, _LIMIT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterAwayError(f"{command[0]}: does not answer ({error}); Slurm is asked again later") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[:200]
        raise ClusterAwayError(f"{command[0]}: {said or 'failed'}; Slurm is asked again later")
    return done.stdout


def _text(path: Path | None, *, whole: bool = False) -> str:
    """End of a file's text, or all of it; empty if unreadable."""
    try:
        content = path.read_bytes() if path else b""
    except OSError:
        return ""
    return (content if whole else content[-_TAIL_BYTES:]).decode(errors="replace")
