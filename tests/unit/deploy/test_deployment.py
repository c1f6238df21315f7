"""A deployment that is killed at any step and called again ends as if it had not been."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from deploying_host import AT_WORK, BEGUN, DOWN, Host

from contimg.core.errors import DeploymentError, InstallationError, LeaseError
from contimg.core.paths import DataRoot
from contimg.core.release import DeploymentWatch
from contimg.deploy import deployment
from contimg.deploy.blue_green import Action, HostState, Phase, Step
from contimg.deploy.host_paths import COLOURS, HostPaths


class KilledError(BaseException):
    """The deploying command is killed."""


@dataclass
class Machine:
    """A site on a host that is seen and changed as by systemd; one of the changes kills the deploying command.

    Attributes
    ----------
    kill_at
        Number of the change; 0: none.
    after
        Whether the change is made before the command is killed.
    changes
        Changes made.
    looks
        What is different at the next looks at the host.
    """

    folder: Path
    host: Host = field(default_factory=Host)
    kill_at: int = 0
    after: bool = False
    changes: list[str] = field(default_factory=list)
    looks: list[dict[str, object] | InstallationError] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.site = HostPaths(self.folder / "contimg", self.folder, self.folder / "etc", self.folder / "units")
        self.new = self.folder / "new"
        for path in (
            self.new / "bin",
            self.site.settings / "releases",
            self.folder / "units" / "contimg.service.wants",
        ):
            path.mkdir(parents=True)
        (self.new / "bin" / "contimg").touch()
        self.systemctl("enable", "contimg@blue.service")

    def see(self) -> HostState:
        before = deployment._read(self.site) or BEGUN
        seen = self.host.see(before)
        different = self.looks.pop(0) if self.looks and before.phase == Phase.PROBATION else {}
        if isinstance(different, InstallationError):
            raise different
        return replace(seen, **different)

    def do(self, step: Step) -> None:
        if step.action in (Action.WAIT, Action.ENTER):
            self.host.do(step.action, step.colour)
        else:
            self._changed(f"{step.colour}: {step.action}", lambda: self.host.do(step.action, step.colour))

    def systemctl(self, what: str, unit: str, *_: str) -> None:
        link = self.folder / "units" / "contimg.service.wants" / unit

        def change() -> None:
            link.unlink(missing_ok=True)
            if what == "enable":
                link.symlink_to("unit")

        self._changed(f"{what} {unit}", change)

    def _changed(self, name: str, change) -> None:
        self.kill_at -= 1
        if self.kill_at or self.after:
            self.changes.append(name)
            change()
        if not self.kill_at:
            raise KilledError

    def deploy(self, *, back: bool = False) -> str:
        """Deploy; returns the reason for which that failed."""
        try:
            release = None if back else self.new
            list(deployment.deploy(self.site, release, back=back, probation_s=10, host=self))
        except DeploymentError as error:
            return str(error)
        return ""

    def at_boot(self) -> list[str]:
        """Runners that start with the host."""
        return sorted(path.name for path in (self.folder / "units" / "contimg.service.wants").iterdir())


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch):
    """Deployments by the clock and the systemd of a machine."""

    def play(machine: Machine) -> Machine:
        clock = SimpleNamespace(time=lambda: machine.host.now, sleep=lambda _: None)
        monkeypatch.setattr(deployment, "time", clock)
        monkeypatch.setattr(deployment, "systemctl", machine.systemctl)
        return machine

    return play


TAKES_OVER = [
    "green: check",
    "green: start its runner, to stand by",
    "blue: have its runner hand over to the other",
    "green: start its service",
    "blue: stop its service",
]
FINISHES = ["blue: stop its runner", "enable contimg@green.service", "disable contimg@blue.service"]
PORT_BACK = ["blue: start its service", "green: stop its service"]
ENDS = ["green: stop its runner", "enable contimg@blue.service", "disable contimg@green.service"]
GOES_BACK = [*PORT_BACK, *ENDS]
HANDS_BACK = "green: have its runner hand over to the other"


CASES: dict[str, tuple[dict, str, str, list[str]]] = {
    "it works": ({}, "green", "", [*TAKES_OVER, *FINISHES]),
    "it crashes at its start": (
        {"fails": Phase.TAKE_OVER},
        "blue",
        "blue is in use as before",
        [*TAKES_OVER[:2], *ENDS],
    ),
    "it fails in its probation": (
        {"fails": Phase.PROBATION, "how": "silent"},
        "blue",
        "blue is in use as before",
        [*TAKES_OVER, HANDS_BACK, *GOES_BACK],
    ),
    "it hands nothing over": (
        {"fails": Phase.PROBATION, "how": "deaf"},
        "blue",
        "blue is in use as before",
        [*TAKES_OVER, *[HANDS_BACK] * 60, ENDS[0], *PORT_BACK, *ENDS[1:]],
    ),
    "there is no way back": (
        {"fails": Phase.PROBATION, "how": "silent", "broken": ("blue",)},
        "green",
        "green stays in use",
        [*TAKES_OVER, *FINISHES],
    ),
}
"""How green fails, the colour in use then, what the command says, and what it changes on the host."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("back", [False, True], ids=["called again", "with --rollback"])
def test_killed_at_any_step(tmp_path: Path, played, case: tuple[dict, str, str, list[str]], back: bool) -> None:
    failure, used, says, changes = case
    whole = played(Machine(tmp_path / "whole", Host(**failure)))
    whole.deploy()
    assert whole.changes[1:] == changes
    for number, after in ((number, after) for number in range(1, len(changes) + 1) for after in (False, True)):
        machine = played(Machine(tmp_path / f"{number}-{after}", Host(**failure)))
        machine.kill_at, machine.after = number, after
        with pytest.raises(KilledError):
            machine.deploy()
        said = machine.deploy(back=back)
        stays = "blue" in machine.host.broken and machine.host.took_over
        expected = "blue" if back and not stays else used
        if not back:
            assert says in said, number
            assert bool(said) == bool(says), number
        assert machine.at_boot() == [f"contimg@{expected}.service"], number
        other = next(colour for colour in COLOURS if colour != expected)
        assert machine.host.runners == {expected: AT_WORK, other: DOWN}, number
        assert machine.host.services == {expected: AT_WORK, other: DOWN}, number
        assert len(machine.host.took_over) <= 2, "the lease went to and fro"
        assert bool(DeploymentWatch(machine.site.config).failed()) == ("stays" in said), number


def test_the_state_file_can_be_read_by_the_runner(tmp_path: Path, played) -> None:
    """Root's umask is often 077: the alert on a failed deployment never came."""
    machine = played(Machine(tmp_path))
    mask = os.umask(0o077)
    try:
        machine.deploy()
    finally:
        os.umask(mask)
    assert (machine.site.settings / "deployment.json").stat().st_mode & 0o777 == 0o644


BAD_LOOKS = {
    "the lease cannot be read": ({"holder": "", "unknown": "runner.lock: cannot be read"}, "cannot be read"),
    "the service is not ready": ({"ready": False}, "it was not ready"),
    "the service does not answer": ({"answers": False}, "its service did not answer"),
    "systemd does not answer": (InstallationError("systemctl: timed out"), "systemctl: timed out"),
}


@pytest.mark.parametrize(("look", "why"), BAD_LOOKS.values(), ids=BAD_LOOKS)
@pytest.mark.parametrize("number", [2, 3], ids=["two looks", "three looks"])
def test_a_release_gives_way_after_three_bad_looks_in_a_row(
    tmp_path: Path, played, look: dict[str, object] | InstallationError, why: str, number: int
) -> None:
    """One momentary error undid a release."""
    machine = played(Machine(tmp_path))
    machine.looks = [look] * number
    said = machine.deploy()
    assert (why in said) == (number == 3), said
    assert machine.at_boot() == [f"contimg@{'blue' if said else 'green'}.service"]


@pytest.fixture
def units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units as systemd shows them."""
    shown = "ActiveState=active\nStatusText=\nNRestarts=0\nMainPID=1\nStateChangeTimestamp=@5\n"
    monkeypatch.setattr(deployment, "systemctl", lambda *_: shown)


def test_a_lease_that_cannot_be_read_is_not_one_that_nobody_holds(
    tmp_path: Path, units: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = HostPaths(tmp_path / "contimg", tmp_path / "data", tmp_path)
    site.config.write_text(f"data_root: {site.data_root}\nservice: {{port: 9}}\n")
    host = deployment.Host(site)
    assert host.see().unknown == ""
    lock = DataRoot(site.data_root).state / "runner.lock"

    def unreadable(_: DataRoot) -> None:
        raise LeaseError(f"{lock}: cannot be read (Input/output error); whether a runner lives is not known")

    monkeypatch.setattr(deployment, "holder", unreadable)
    seen = host.see()
    assert (seen.holder, seen.unknown.partition(" (")[0]) == ("", f"{lock}: cannot be read")
    monkeypatch.setattr(Host, "see", lambda *_: seen, raising=True)
    with pytest.raises(DeploymentError, match="cannot be read"):
        list(deployment.deploy(site, tmp_path, back=False, probation_s=1, host=host))
