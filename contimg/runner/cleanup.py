"""Leftovers of dead processes: staging in tmpfs, half-written outputs, processes of a runner that was killed."""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil

from contimg.core import files, processes
from contimg.core.errors import ClusterAwayError
from contimg.core.paths import DataRoot
from contimg.core.products import PRODUCTS
from contimg.execute import slurm
from contimg.execute.lease import mark_of
from contimg.execute.snakemake import RunningCall
from contimg.job import staging

log = logging.getLogger(__name__)

_PART = re.compile(rf"\..+(?:{re.escape(files.PART_MARK)}|\.old-)(?:(\w+)\.)?(\d+)(?:-\w+)?")
_QUEUE_S = 600.0
"""Longest wait (s) for the end of cancelled jobs: slurmctld may be away, and takes a while to find a dead node."""
_LOOK_S = 1.0
"""Interval (s) between two looks at the queue meanwhile."""
_FAR_JOBS_S = 86400.0
"""Age (s) up to which a partial output of another host's job counts as being written."""


def kill_orphans(root: DataRoot, handed_over: Sequence[RunningCall] = ()) -> int:
    """Kill the processes of dead runners of this data root, without calls handed over; returns their number."""
    sessions = {started.pid for started in handed_over}
    jobs = _slurm_jobs(handed_over)
    orphans = [
        process
        for process in processes.marked_processes(mark_of(root))
        if process.pid != os.getpid()
        and processes.session_of(process.pid) not in sessions
        and not _job_name(process).startswith(jobs)
    ]
    if orphans:
        log.warning("killing %d processes that a dead runner left behind", len(orphans))
    return processes.kill(orphans)


def _slurm_jobs(handed_over: Sequence[RunningCall]) -> tuple[str, ...]:
    """Name prefixes of the Slurm jobs of calls handed over."""
    return tuple(started.slurm_jobs for started in handed_over if started.slurm_jobs)


def _job_name(process: psutil.Process) -> str:
    """Name of the Slurm job of a process, which may run on this host in a session of its own; empty without one."""
    try:
        return process.environ().get("SLURM_JOB_NAME", "")
    except psutil.Error:
        return ""


def partial_outputs(root: DataRoot, unit: str) -> Iterator[Path]:
    """Partial outputs of a unit, and outputs set aside for them, of dead processes; none of its jobs may run."""
    folders = {root.path(product.name, unit).parent for product in PRODUCTS.values() if "{date}" in product.path}
    for folder in sorted(folders):
        own = ".*" if folder.name == unit else f".{unit}.*"
        try:
            yield from [path for path in folder.glob(own) if is_abandoned(path, far_jobs_s=-math.inf)]
        except OSError as error:
            log.warning("%s: cannot be read now (%s); partial outputs of %s stay", folder, error.strerror, unit)


def is_abandoned(path: Path, far_jobs_s: float = _FAR_JOBS_S) -> bool:
    """Whether a path is a partial output, or an output set aside for one, of a dead process.

    Parameters
    ----------
    far_jobs_s
        Age (s) from which a process on another host counts as dead.
    """
    match = _PART.fullmatch(path.name)
    if not match:
        return False
    try:
        if match[1] not in (None, files.host()):
            return time.time() - path.lstat().st_mtime >= far_jobs_s
        writer = psutil.Process(int(match[2]))
        return not processes.is_running(writer) or writer.create_time() > path.lstat().st_mtime + 1
    except psutil.NoSuchProcess:
        return True
    except FileNotFoundError:
        return False


def clear_queue(root: DataRoot, keep: Callable[[], None], handed_over: Sequence[RunningCall] = ()) -> int:
    """Cancel the Slurm jobs of dead runners of this data root, and wait for their end; returns their number.

    Jobs of all users count, because the dead runner may have been started by another user; jobs of calls that were
    handed over stay.

    Raises
    ------
    ClusterAwayError
        If Slurm does not answer, or does not end them: a job left alive could meet another try of its group.
    """
    spared = _slurm_jobs(handed_over)
    cancelled: set[str] = set()
    said = ""
    deadline = time.monotonic() + _QUEUE_S
    while True:
        try:
            left = slurm.cancel(slurm.name_prefix(root), of_all_users=True, spared=spared)
        except ClusterAwayError as error:
            problem = error
        else:
            if not left:
                return len(cancelled)
            if new := {job.number for job in left} - cancelled:
                log.warning("cancelling %d Slurm jobs that a dead runner left behind", len(new))
            cancelled |= new
            problem = ClusterAwayError(
                f"Slurm jobs {slurm.told(left)}: of a dead runner, do not end; cancel them, then start again"
            )
        if time.monotonic() > deadline:
            raise problem
        if not cancelled and str(problem) != said:
            said = str(problem)
            log.warning("%s", said)
        keep()
        time.sleep(_LOOK_S)


def remove_stale_staging(root: DataRoot, directory: Path) -> None:
    """Remove staging of dead processes."""
    for path in staging.stale(root, directory):
        _remove(path, "the staging of a dead job")


def remove_partial_outputs(root: DataRoot, unit: str) -> None:
    """Remove a unit's partial outputs."""
    for path in list(partial_outputs(root, unit)):
        _remove(path, "what a dead job left")


def _remove(path: Path, what: str) -> None:
    """Remove leftovers, or say that they stay: a folder that cannot be written now must not stop a start."""
    log.warning("%s: removing %s", path, what)
    try:
        files.remove(path)
    except OSError as error:
        log.warning("%s: cannot be removed now (%s); it stays until the next start", path, error.strerror)
