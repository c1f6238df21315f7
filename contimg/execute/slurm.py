"""Slurm's queue: jobs of a data root found and cancelled, and how those of a call ended.

Snakemake submits the jobs and waits for them. Their names begin with the data root's and the call's, so that all
can be found when Snakemake or the runner has died. Only `squeue` and `scancel` are called: they need no accounting.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from contimg.core.errors import (
    ClusterAwayError,
    ContimgError,
    JobDiedError,
    JobTimeoutError,
    MemoryExhaustedError,
)
from contimg.core.paths import DataRoot
from contimg.job.error_patterns import recognized

_LIMIT_S = 20.0
"""Longest wait (s) for an answer of slurmctld."""
_REMEMBERED_S = 3600
"""Time (s) for which Slurm is taken to know jobs that have ended; `contimg check-cluster` looks at the true one."""
_WAITING = frozenset({"PENDING", "CONFIGURING", "SUSPENDED", "STOPPED", "REQUEUED", "REQUEUE_HOLD", "RESV_DEL_HOLD"})
_SUBMITTED = re.compile(r"submitted with SLURM jobid (\d+) \(log: (.+?)\)")
_ENDED = re.compile(r"SLURM-job '(\d+)' failed.{0,80}?SLURM status is: '(\w+)'", re.DOTALL)
_STATES: dict[str, tuple[type[ContimgError], str]] = {
    "TIMEOUT": (JobTimeoutError, "was ended by Slurm at its time limit"),
    "DEADLINE": (JobTimeoutError, "was ended by Slurm at its deadline"),
    "OUT_OF_MEMORY": (MemoryExhaustedError, "took more memory than it had asked Slurm for"),
    "CANCELLED": (JobDiedError, "was cancelled in Slurm"),
    "PREEMPTED": (JobDiedError, "was preempted by another job of Slurm's"),
    "NODE_FAIL": (JobDiedError, "was lost with its node"),
    "BOOT_FAIL": (JobDiedError, "was lost: its node did not start"),
}
_TAIL_BYTES = 20_000


@dataclass(frozen=True)
class SlurmJob:
    """A job that is in the queue or runs."""

    number: str
    name: str
    state: str

    @property
    def waits(self) -> bool:
        """Whether it waits for resources."""
        return self.state in _WAITING


def jobs_of(root: DataRoot, lease: int | None = None, call: int | None = None) -> str:
    """First part of the names of a data root's jobs, of those under one lease, or of those of one of its calls.

    It goes by the path, which is the same on all hosts, and holds no character that the plugin refuses.
    """
    place = hashlib.blake2b(str(root.root).encode(), digest_size=6).hexdigest()
    return "-".join(["contimg", place, *(str(number) for number in (lease, call) if number is not None), ""])


def jobs(prefix: str) -> list[SlurmJob]:
    """Jobs of this user that wait, run or end just now, whose names begin so.

    Raises
    ------
    ClusterAwayError
        If Slurm does not answer.
    """
    lines = _asked("squeue", "--me", "--noheader", "--format=%i|%T|%j").splitlines()
    found = (SlurmJob(number, name, state) for number, state, name in (line.split("|", 2) for line in lines))
    return [job for job in found if job.name.startswith(prefix)]


def cancel(prefix: str) -> list[SlurmJob]:
    """Cancel the jobs of this user whose names begin so; returns those that were still there.

    Raises
    ------
    ClusterAwayError
        If Slurm does not answer.
    """
    found = jobs(prefix)
    if found:
        _asked("scancel", *(job.number for job in found))
    return found


def submitted(log: Path) -> dict[str, Path]:
    """Ids of the jobs that a call has submitted, as Snakemake's log says, with the file of their output."""
    return {number: Path(path) for number, path in _SUBMITTED.findall(_text(log))}


def how_it_ended(log: Path, number: str = "") -> ContimgError | None:
    """Error by which a job (empty: any job of the call) was ended from outside; None where nothing says so.

    Parameters
    ----------
    log
        What Snakemake printed.
    """
    states = {job: state for job, state in _ENDED.findall(_text(log)) if number in ("", job)}
    for job, state in states.items():
        if state in _STATES:
            error, what = _STATES[state]
            return error(f"Slurm job {job} {what}; it is due again")
        said = recognized(_text(submitted(log).get(job)).splitlines(), passing=True)
        if said and said.pattern.error is MemoryExhaustedError:
            return MemoryExhaustedError(f"Slurm job {job} took more memory than it had asked for; it is due again")
    return None


def look_steadily() -> None:
    """Have Snakemake, in this process, look at its jobs every `seconds-between-status-checks` of the profile.

    The plugin lengthens the pause by 10 s a look, up to 3 min: a call of one job would end half as late again. When
    slurmctld is away, it turns from squeue to sacct, where no accounting is gets no answer, and forgets its jobs.
    """
    import snakemake_executor_plugin_slurm as plugin  # noqa: PLC0415 — an extra
    from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor  # noqa: PLC0415 — as Snakemake

    async def sleep(executor: RemoteExecutor) -> None:
        await asyncio.sleep(executor.workflow.remote_execution_settings.seconds_between_status_checks)

    RemoteExecutor.sleep = sleep
    plugin.get_min_job_age = lambda: _REMEMBERED_S


def _asked(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterAwayError(f"{command[0]}: does not answer ({error}); Slurm is asked again later") from error
    if done.returncode:
        said = " ".join(done.stderr.split())[:200]
        raise ClusterAwayError(f"{command[0]}: {said or 'failed'}; Slurm is asked again later")
    return done.stdout


def _text(path: Path | None) -> str:
    """End of a file's text; empty where it cannot be read."""
    try:
        return path.read_bytes()[-_TAIL_BYTES:].decode(errors="replace") if path else ""
    except OSError:
        return ""
