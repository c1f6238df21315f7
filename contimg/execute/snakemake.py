"""Snakemake calls in forked children of this process, which imports Snakemake once, before the first call.

A call costs 0.1 s of processor time to its first job instead of 1.5 s, leaks nothing, and has a session of its own,
so that it can be stopped whole. Simultaneous calls work on different files; the lease replaces Snakemake's own lock.
Calls of a runner that hands over its lease run on, each with a record, from which the next runner settles them.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from contimg.core import files, processes
from contimg.core.config import Settings, without_secrets
from contimg.core.errors import ConfigError, LeaseError, in_words
from contimg.core.paths import DataRoot
from contimg.core.sections import Runner
from contimg.core.stages import STAGES
from contimg.execute import slurm
from contimg.execute.lease import Lease, last_number
from contimg.schedule.lanes import Call, Demand
from contimg.schedule.periodic_tasks import SUMMARY
from contimg.schedule.profile import on_slurm

log = logging.getLogger(__name__)

_NOT_OF_JOBS = ("alerts", "service", "groups", "scan_incoming")
"""Settings that jobs have no use for, so that a change of them restarts nothing."""
_OF_CALLS = (
    *("snakemake.cli", "snakemake.report", "smart_open", "nbformat"),
    *("contimg.workflow.due", "contimg.workflow.start", "contimg.workflow.tries"),
)
"""Modules that every call needs: Snakemake's, those that it imports while it reads the rules, the Snakefile's."""
LOST = -128
"""Exit code (of no signal) for a call that ended with the runner that had started and handed it over."""


@dataclass(frozen=True)
class RunningCall:
    """Running call.

    Attributes
    ----------
    pid
        Process id of Snakemake, also the id of its session.
    began
        Start (Unix, s).
    began_steady
        Start on the steady clock (s).
    log
        Output of Snakemake.
    slurm_jobs
        Name prefix of the call's Slurm jobs; empty where its jobs run on this host.
    lease
        Number of the lease under which the call was started.
    pid_started
        Start of Snakemake's process in clock ticks after the boot.
    """

    call: Call
    pid: int
    began: float
    began_steady: float
    log: Path
    slurm_jobs: str = ""
    lease: int = 0
    pid_started: int = 0


def import_modules() -> None:
    """Import the modules of calls, which takes a second or two the first time."""
    for module in _OF_CALLS:
        __import__(module)


def check_profile(profile: Path) -> None:
    """Check that Snakemake takes the options of a profile, which also imports the plugins that it names.

    Raises
    ------
    ConfigError
        If it does not; its calls would end before their first job.
    """
    from snakemake import cli  # noqa: PLC0415 — takes a second

    output = io.StringIO()
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):  # ours may lie on a full disk
            cli.parse_args(["--profile", str(profile)])
    except SystemExit as end:
        why = output.getvalue().strip().rpartition("\n")[2].rpartition("error: ")[2]
        raise _not_taken(profile, why) from end
    except Exception as error:
        raise _not_taken(profile, in_words(error)) from error


def _not_taken(profile: Path, why: str) -> ConfigError:
    return ConfigError(f"runner.profile: {profile}: Snakemake does not take it ({why}); correct it")


class Snakemake:
    """Snakemake workflow of a checkout, for one data root under one lease."""

    def __init__(self, checkout: Path, root: DataRoot, lease: Lease) -> None:
        self._checkout = checkout
        self._root = root
        self._lease = lease
        self._started = 0
        self._warm = False

    def warm(self, settings: Runner) -> None:
        """Import the modules that every call needs, once.

        Raises
        ------
        ConfigError
            If Snakemake does not take the profile.
        """
        if self._warm:
            return
        import_modules()
        check_profile(self._profile(settings))
        self._warm = True

    def write_settings(self, settings: Settings) -> frozenset[str]:
        """Write the settings for calls that start from now on, without secrets.

        Returns
        -------
        frozenset of str
            Sections that changed since the last write; empty the first time.

        Raises
        ------
        OSError
            If the settings cannot be written; the old ones stay. Unchanged settings are not written, so that a runner
            can start on a full disk.
        """
        content = {name: values for name, values in without_secrets(settings).items() if name not in _NOT_OF_JOBS}
        said = yaml.safe_dump(content, sort_keys=False).encode()
        before = self._settings_path.read_bytes() if self._settings_path.is_file() else None
        if before == said:
            return frozenset()
        with files.atomic_write(self._settings_path) as part:
            part.write_bytes(said)
        if before is None:
            return frozenset()
        try:
            old = dict(yaml.safe_load(before))
        except (yaml.YAMLError, ValueError, TypeError):
            old = {}
        return frozenset(section for section in content if content[section] != old.get(section))

    def start(self, call: Call, settings: Runner, now: float, steady: float, trace_id: str) -> RunningCall:
        """Start a call; the kernel kills its Snakemake if this process dies.

        Raises
        ------
        OSError
            If its log cannot be written or its process cannot be started.
        ConfigError
            If the profile cannot be read, or Snakemake does not take it.
        """
        self.warm(settings)
        self._started += 1
        slurm_jobs = ""
        if on_slurm(settings.profile):
            slurm_jobs = slurm.name_prefix(self._root, self._lease.number, self._started)
        log = _folder(self._root) / f"{call.lane}-{call.units[0]}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        for left in (_record(log), _code(log)):
            left.unlink(missing_ok=True)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            pid = processes.fork(
                lambda: self._call(self._arguments(call, settings, slurm_jobs), descriptor, trace_id, slurm_jobs),
                session=True,
                keep=descriptor,
            )
        finally:
            os.close(descriptor)
        return RunningCall(
            call, pid, now, steady, log, slurm_jobs, self._lease.number, processes.start_time(pid) or 0
        )

    @property
    def _settings_path(self) -> Path:
        return self._root.state / "settings.yaml"

    def _profile(self, settings: Runner) -> Path:
        return settings.profile or self._checkout / "profiles" / "local"

    def _arguments(self, call: Call, settings: Runner, slurm_jobs: str) -> list[str]:
        lane = STAGES[call.lane]
        targets = [
            str(path.relative_to(self._root.root)) for unit in call.units for path in lane.targets(self._root, unit)
        ]
        # The memory limit is this host's; on a cluster, Slurm allots memory.
        memory = [] if slurm_jobs else [f"mem_mb={call.demand.memory_mb}"]
        return [
            *("--snakefile", str(self._checkout / "Snakefile"), "--profile", str(self._profile(settings))),
            *("--configfile", str(self._settings_path), "--replace-workflow-config"),
            *("--config", f"groups={json.dumps(call.groups)}", "scan_incoming=false"),
            *("--nolock", "--nocolor", "--cores", str(call.cores)),
            *("--resources", "conversion_share=1000", "image_share=1000", *memory),
            *(("--slurm-jobname-prefix", slurm_jobs) if slurm_jobs else ()),
            *("--allowed-rules", *lane.rules),
            *(("--forcerun", call.lane) if call.again or call.lane == SUMMARY else ()),
            *("--", *targets),
        ]

    def _call(self, arguments: list[str], log: int, trace_id: str, slurm_jobs: str) -> int:
        """Run Snakemake in the forked process; returns the exit code."""
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(nothing)
        os.close(log)
        cache = str(self._root.state / "cache")
        os.environ.update({processes.MARK: self._lease.mark, "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": cache})
        os.environ["TRACEPARENT"] = f"00-{trace_id}-{os.urandom(8).hex()}-01"
        os.chdir(self._root.root)
        if slurm_jobs:
            slurm.poll_at_fixed_interval()
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    from snakemake import cli  # noqa: PLC0415 — imported by `warm`

    sys.argv = ["snakemake", *arguments]
    try:
        cli.main(arguments)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    return 0


def exit_code(started: RunningCall, *, told: bool = False) -> int | None:
    """Exit code of a call (negative: the signal that ended it, or `LOST`), given once; None while the call runs.

    Jobs that outlive their Snakemake are killed: they would write into directories that are made anew.

    Parameters
    ----------
    told
        Whether the code is written for the runner that this one has handed over to.
    """
    try:
        code = processes.exit_code(started.pid)
    except ChildProcessError:
        return _told_code(started)
    if code is not None:
        # Snakemake is not reaped yet and keeps its pid, so that the session is surely the call's own.
        processes.kill(member for member in processes.session_processes(started.pid) if member.pid != started.pid)
        if told:
            _tell_code(started, code)
        os.waitpid(started.pid, 0)
    return code


def hand_over(started: RunningCall, code: int | None) -> None:
    """Record a call for the next runner; this process stays its parent, and calls `exit_code` until it has ended.

    Parameters
    ----------
    code
        Exit code of a call that has ended and is not settled; None of a call that runs.

    Raises
    ------
    OSError
        If the record cannot be written; the next runner then ends the call.
    """
    files.write_json(_record(started.log), asdict(started) | {"log": str(started.log)})
    if code is not None:
        _tell_code(started, code)


def handed_over(root: DataRoot) -> list[RunningCall]:
    """Calls that a runner has handed over and none has settled; records of calls that died with it are removed."""
    found = []
    for path in sorted(_folder(root).glob("*.json")):
        try:
            started = _recorded(files.read_json(path))
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s: cannot be read (%s); its call is ended", path, in_words(error))
            with contextlib.suppress(OSError):
                path.unlink()  # so that its jobs do not begin
            continue
        # A zombie counts as running: its parent is about to tell its code.
        if processes.start_time(started.pid) == started.pid_started or _code(started.log).exists():
            found.append(started)
        else:
            path.unlink(missing_ok=True)
    return found


def sessions_handed_over(root: DataRoot) -> set[int]:
    """Sessions of the calls that a runner has handed over and none has settled."""
    found = set()
    for path in _folder(root).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found.add(_recorded(files.read_json(path)).pid)
    return found


def forget(started: RunningCall) -> None:
    """Remove the record of a settled call."""
    for path in (_record(started.log), _code(started.log)):
        path.unlink(missing_ok=True)


def check_outlived(root: DataRoot) -> None:
    """Check that the call that this process works for is still wanted.

    A Slurm job that was submitted while its runner died is in the queue only after the next runner has looked there.

    Raises
    ------
    LeaseError
        If another runner has followed, to which the call was not handed over.
    """
    number = os.environ.get(processes.MARK, "").rpartition(":")[2]
    if not number.isdigit() or int(number) >= (now := last_number(root)):
        return
    for path in _folder(root).glob("*.json"):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            if files.read_json(path)["lease"] == int(number):
                return
    raise LeaseError(f"{root.root}: its lease {number} has ended, a runner with lease {now} has followed; not begun")


def _recorded(content: Mapping[str, Any]) -> RunningCall:
    call = content["call"]
    if call["lane"] not in STAGES:
        raise ValueError(f"this release has no stage {call['lane']!r}")
    units, groups, demand = tuple(call["units"]), tuple(call["groups"]), Demand(**call["demand"])
    whole = Call(**{**call, "units": units, "groups": groups, "demand": demand})
    return RunningCall(**{**content, "call": whole, "log": Path(content["log"])})


def _told_code(started: RunningCall) -> int | None:
    """Exit code of another runner's call, as that runner has written it; `LOST` if it has died with the call."""
    there = processes.start_time(started.pid)
    if there == started.pid_started:
        return None  # it runs, or its code is not written yet
    if there is None:
        processes.kill(processes.session_processes(started.pid))
    try:
        return int(_code(started.log).read_text("utf-8"))
    except (OSError, ValueError):
        return LOST


def _tell_code(started: RunningCall, code: int) -> None:
    with contextlib.suppress(OSError), files.atomic_write(_code(started.log)) as part:
        part.write_text(str(code), "utf-8")


def _folder(root: DataRoot) -> Path:
    return root.state / "calls"


def _record(log: Path) -> Path:
    return log.with_suffix(".json")


def _code(log: Path) -> Path:
    return log.with_suffix(".code")


def error_from_log(log: Path) -> str:
    """Error message from a call's log, of a traceback its exception; else its last line."""
    try:
        lines = [line.rstrip() for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    except OSError as error:
        return f"{log}: cannot be read ({error.strerror})"
    telling = [n for n, line in enumerate(lines) if "Error" in line or "Exception" in line or "Traceback" in line]
    if not telling:
        return lines[-1].strip()[:400] if lines else "it printed nothing"
    first = telling[0]
    if "Traceback" in lines[first]:
        first = next((n for n in range(first + 1, len(lines)) if not lines[n][0].isspace()), first)
    return " ".join(line.strip() for line in lines[first : first + 4])[:400]
