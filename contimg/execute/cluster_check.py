"""Check of a Slurm cluster for a data root's jobs: commands, nodes, shared files, environment, clock, tmpfs."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contimg.core import processes
from contimg.core.errors import ClusterAwayError
from contimg.core.paths import DataRoot
from contimg.core.release import version_line
from contimg.core.sections import Runner, Staging
from contimg.execute import slurm
from contimg.execute.node_probe import ANSWERED, ASKED
from contimg.schedule.profile import on_slurm, read_profile

_COMMANDS = ("sbatch", "srun", "squeue", "scancel", "sinfo", "scontrol")
_MIN_JOB_AGE_S = 30
"""Shortest MinJobAge (s) of Slurm at which the plugin, which polls every 10 s, sees every job's end."""
_CLOCK_S = 2.0
"""Largest clock difference (s) of a node, because files are compared by their times."""
_STAGING_BYTES = 1_000_000_000
_SEEN_S = 60.0
"""Longest wait (s) for a file written by a node: `latency-wait` of the profile."""
_PROBE_S = 60.0
_USABLE = ("idle", "mix", "alloc", "comp")


def missing_requirements(root: DataRoot, runner: Runner, staging: Staging) -> Iterator[str]:
    """Missing requirements, one line each; none where jobs can run.

    Raises
    ------
    ConfigError
        If the profile cannot be read.
    OSError
        If the data root cannot be written.
    """
    profile = runner.profile
    if profile is None or not on_slurm(profile):
        yield "runner.profile: names no profile with executor: slurm; copy profiles/slurm and name the copy"
        return
    if importlib.util.find_spec("snakemake_executor_plugin_slurm") is None:
        yield "contimg[slurm] is not installed here: pip install --require-hashes -r requirements-slurm.lock"
    absent = [name for name in _COMMANDS if shutil.which(name) is None]
    if absent:
        yield f"{', '.join(absent)}: not found; install Slurm's client commands on this host"
        return
    try:
        slurm.jobs("contimg-")
    except ClusterAwayError as error:
        yield str(error)
        return
    age = re.search(r"MinJobAge\s*=\s*(\d+)", _said("scontrol", "show", "config"))
    if age and int(age[1]) < _MIN_JOB_AGE_S:
        yield f"MinJobAge is {age[1]} s; have it set to {_MIN_JOB_AGE_S} s or more (Slurm's own: 300)"
    yield from _nodes(root, staging.directory, read_profile(profile))


def _nodes(root: DataRoot, staging: Path, profile: Mapping[str, Any]) -> Iterator[str]:
    """Missing requirements of the nodes, each node tested by a job."""
    asked = profile.get("default-resources") or {}
    where = [f"--partition={asked['slurm_partition']}"] if "slurm_partition" in asked else []
    account = [f"--account={asked['slurm_account']}"] if "slurm_account" in asked else []
    listed = _said("sinfo", "--noheader", "--Node", "--format=%n %t %P", *where).splitlines()
    default = [line for line in listed if where or line.endswith("*")]
    states = dict(line.split()[:2] for line in default)
    if not states:
        yield f"no node in {asked.get('slurm_partition', 'the default partition')}; see sinfo"
    with _question(root) as token:
        for node, state in sorted(states.items()):
            if not state.startswith(_USABLE) or state.endswith("*"):
                yield f"{node}: is {state}; no job runs there"
                continue
            command = ("srun", *where, *account, f"--nodelist={node}", "--ntasks=1", "--mem=300", "--time=2")
            probe = (sys.executable, "-m", "contimg.execute.node_probe", str(root.root), str(staging), token)
            began = time.time()
            yield from _node(root, node, _answer(*command, "--immediate=30", "--quiet", *probe), began)


def _node(root: DataRoot, node: str, found: Mapping[str, Any] | str, began: float) -> Iterator[str]:
    if isinstance(found, str):
        yield f"{node}: {found}"
        return
    if found["version"] != version_line():
        yield f"{node}: has {found['version']}, and this host {version_line()}; share one environment"
    late = max(began - found["time"], found["time"] - time.time())
    if late > _CLOCK_S:
        yield f"{node}: its clock differs by {late:.0f} s; run chrony or the like there and here"
    free = found["staging_free_bytes"]
    if free is None or free < _STAGING_BYTES:
        yield f"{node}: staging.directory has {(free or 0) / 1e9:.1f} GB free; conversions go to the data root's disk"
    if "root_error" in found or not found["same_root"]:
        why = found.get("root_error", "another folder is there")
        yield f"{node}: {root.root} is not the data root there ({why}); mount it at the same path, writable"
        return
    if not found["locks_shared"]:
        yield f"{node}: its locks do not count here: never start a runner there, for none would refuse"
    answer = root.state / ANSWERED.format(host=found["host"])
    end = time.monotonic() + _SEEN_S
    while not answer.exists():
        if time.monotonic() > end:
            yield f"{node}: its files are not seen here within {_SEEN_S:.0f} s; mount with a shorter attribute cache"
            return
        time.sleep(0.1)
    answer.unlink()


@contextlib.contextmanager
def _question(root: DataRoot) -> Iterator[str]:
    """Locked file in the data root with a secret, by which a node proves that it sees the same file."""
    token = secrets.token_hex(8)
    path = root.state / ASKED
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(token, "utf-8")
    try:
        with path.open(encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield token
    finally:
        path.unlink(missing_ok=True)


def _answer(*command: str) -> Mapping[str, Any] | str:
    """Answer of the probe; a string gives the reason for a missing answer."""
    try:
        done = processes.output(command, _PROBE_S)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        return f"a job there gave no answer within {_PROBE_S:.0f} s"
    except (OSError, ValueError, IndexError):
        said = " ".join(done.stderr.split())
        return f"the environment {sys.executable} does not run there: {said[-200:] or 'no answer'}"


def _said(*command: str) -> str:
    """Output of a command; empty on failure."""
    try:
        done = processes.output(command, _PROBE_S)
        return "" if done.returncode else done.stdout
    except (OSError, subprocess.SubprocessError):
        return ""
