"""Slurm on two nodes of one machine: `python tests/support/slurm_cluster.py COMMAND …` runs a command on it.

Debian's munged, slurmctld and slurmd on loopback, with ports, keys and state of their own. Each node has its own host
name, processes and /dev/shm in namespaces of its own; all share the file system. Needs root.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from servers import free_port

NODES = ("n1", "n2")
PROGRAMS = ("munged", "slurmctld", "slurmd", "squeue")
_CORES = 2
_LIMIT_S = 30.0
_SHM_MB = 1100

_CONF = """
ClusterName=contimg
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
JobCompType=jobcomp/none
MpiDefault=none
SchedulerParameters=sched_interval=5
SlurmdTimeout=20
KillWait=5
OverTimeLimit=0
ReturnToService=2
{nodes}
PartitionName=main Nodes={names} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Why no cluster can be started here; empty if one can."""
    if os.geteuid() != 0:
        return "a Slurm cluster needs root"
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"a Slurm cluster needs {', '.join(absent)}: tools/setup-system installs them"
    tried = subprocess.run([*_NAMESPACES, "true"], capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    return f"a node needs namespaces of its own: {tried.stderr.strip()}" if tried.returncode else ""


_NAMESPACES = ("unshare", "--uts", "--ipc", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


@dataclass
class Cluster:
    """A running cluster.

    Attributes
    ----------
    folder
        Its configuration, state and logs.
    memory_mb
        Of each node.
    """

    folder: Path
    memory_mb: int
    _daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Environment in which Slurm's commands find it."""
        return {**os.environ, "SLURM_CONF": str(self.folder / "slurm.conf")}

    def run(self, *command: str, check: bool = True) -> str:
        """What a Slurm command prints."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr.strip()}")
        return done.stdout

    def configure(self) -> None:
        """Write key and configuration."""
        for name in ("state", *(f"spool-{node}" for node in NODES)):
            (self.folder / name).mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        ports = {node: free_port() for node in NODES}
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={node} NodeAddr=127.0.0.1 Port={port} CPUs={_CORES}"
            f" RealMemory={self.memory_mb} State=UNKNOWN"
            for node, port in ports.items()
        )
        said = _CONF.format(
            host=os.uname().nodename, port=free_port(), folder=self.folder, nodes=nodes, names=",".join(NODES)
        )
        (self.folder / "slurm.conf").write_text(said)
        (self.folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")

    def start(self) -> None:
        """Start all daemons, and wait until both nodes are idle."""
        self._start("munged", *_munge(self.folder))
        _wait((self.folder / "munge.socket").exists, "munged answers")
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        _wait(lambda: self.states() == dict.fromkeys(NODES, "idle"), "both nodes are idle")

    def start_controller(self) -> None:
        """Start slurmctld; it goes on where its predecessor stopped."""
        self._start("slurmctld", "slurmctld", "-D", "-f", str(self.folder / "slurm.conf"))
        _wait(lambda: "UP" in self.run("scontrol", "ping", check=False), "slurmctld answers")

    def stop_controller(self) -> None:
        """Kill slurmctld: nothing is scheduled, and no command of Slurm answers."""
        self._end("slurmctld", signal.SIGKILL)

    def start_node(self, node: str) -> None:
        """Start a node."""
        setup = (
            f"hostname {node} && mount -t tmpfs -o size={_SHM_MB}m tmpfs /dev/shm"
            f" && mount --bind {self.folder} /etc/slurm && slurmd -D -N {node} -f /etc/slurm/slurm.conf & wait"
        )
        self._start(node, *_NAMESPACES, "sh", "-c", setup)

    def kill_node(self, node: str) -> None:
        """Kill a node with all that runs on it; slurmctld is not told."""
        self._end(node, signal.SIGKILL)

    def resume_node(self, node: str) -> None:
        """Let a node that was set down work again; once it has registered, slurmctld may have done so by itself."""

        def works() -> bool:
            self.run("scontrol", "update", f"nodename={node}", "state=resume", check=False)
            return self.states().get(node) in {"idle", "mix", "alloc"}

        _wait(works, f"{node} works again")

    def inside(self, node: str, *command: str) -> None:
        """Run a command in a node's namespaces."""
        inner = Path(f"/proc/{self._daemons[node].pid}/task/{self._daemons[node].pid}/children").read_text().split()
        subprocess.run(["nsenter", "-t", inner[0], "-m", "-u", "-p", *command], check=True, timeout=_LIMIT_S)

    def states(self) -> dict[str, str]:
        """State of each node, as sinfo has it."""
        lines = self.run("sinfo", "-h", "-N", "-o", "%n %t", check=False).splitlines()
        return {node: state for node, _, state in (line.partition(" ") for line in lines)}

    def jobs(self, *states: str) -> list[int]:
        """Ids of the jobs in some states (none: all that are known)."""
        wanted = ",".join(states) or "all"
        return [int(line) for line in self.run("squeue", "-h", "-t", wanted, "-o", "%i").split()]

    def stop(self) -> None:
        """End everything."""
        for name in reversed(list(self._daemons)):
            self._end(name, signal.SIGTERM if name == "munged" else signal.SIGKILL)

    def _start(self, name: str, *command: str) -> None:
        until_we_end = ("setpriv", "--pdeathsig", "KILL")
        with (self.folder / f"{name}.output").open("ab") as output:
            self._daemons[name] = subprocess.Popen(
                (*until_we_end, *command), env=self.environment, stdout=output, stderr=output, start_new_session=True
            )

    def _end(self, name: str, number: signal.Signals) -> None:
        process = self._daemons.pop(name)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        process.wait(_LIMIT_S)


def _munge(folder: Path) -> Sequence[str]:
    places = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munge.pid", "log-file": "munge.log"}
    options = [f"--{option}={folder / name}" for option, name in {**places, "seed-file": "munge.seed"}.items()]
    return ("munged", "--foreground", "--force", "--num-threads=2", *options)


def _wait(until: Callable[[], object], what: str) -> None:
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        if until():
            return
        time.sleep(0.1)
    raise RuntimeError(f"not within {_LIMIT_S:g} s: {what}")


@contextlib.contextmanager
def cluster(memory_mb: int = 2000) -> Iterator[Cluster]:
    """A cluster of two nodes; everything of it ends and is removed with the block."""
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    folder.chmod(0o755)
    made = Cluster(folder, memory_mb)
    made.configure()
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main(command: Sequence[str]) -> int:
    """Run a command on a cluster."""
    if why := missing():
        print(f"slurm_cluster: {why}", file=sys.stderr)
        return 1
    with cluster(memory_mb=8000) as made:
        return subprocess.run(command, env=made.environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
