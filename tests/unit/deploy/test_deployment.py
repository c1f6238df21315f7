"""A deployment that is killed at any step and called again ends as if it had not been."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from deploying_host import AT_WORK, BEGUN, DOWN, Host

from contimg.core.errors import DeploymentError
from contimg.core.release import failed_deployment
from contimg.deploy import deployment
from contimg.deploy.blue_green import HostState, Phase, Step
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
    """

    folder: Path
    host: Host = field(default_factory=Host)
    kill_at: int = 0
    after: bool = False

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
        return self.host.see(deployment._read(self.site) or BEGUN)

    def do(self, step: Step) -> None:
        self._changed(lambda: self.host.do(step.action, step.colour))

    def systemctl(self, what: str, unit: str, *_: str) -> None:
        link = self.folder / "units" / "contimg.service.wants" / unit
        self._changed(lambda: link.unlink(missing_ok=True) if what == "disable" else _link(link))

    def _changed(self, change) -> None:
        self.kill_at -= 1
        if self.kill_at or self.after:
            change()
        if not self.kill_at:
            raise KilledError

    def deploy(self) -> str:
        """Deploy; returns the reason for which that failed."""
        try:
            list(deployment.deploy(self.site, self.new, back=False, probation_s=10, host=self))
        except DeploymentError as error:
            return str(error)
        return ""


def _link(link: Path) -> None:
    if not link.is_symlink():
        link.symlink_to("unit")


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch):
    """Deployments by the clock and the systemd of a machine."""

    def play(machine: Machine) -> Machine:
        clock = SimpleNamespace(time=lambda: machine.host.now, sleep=lambda _: None)
        monkeypatch.setattr(deployment, "time", clock)
        monkeypatch.setattr(deployment, "systemctl", machine.systemctl)
        return machine

    return play


@pytest.mark.parametrize(
    ("failure", "used", "says"),
    [
        ({}, "green", ""),
        ({"fails": Phase.TAKE_OVER}, "blue", "blue is in use as before"),
        ({"fails": Phase.PROBATION, "how": "silent"}, "blue", "blue is in use as before"),
        ({"fails": Phase.PROBATION, "how": "deaf"}, "blue", "blue is in use as before"),
        ({"fails": Phase.PROBATION, "how": "silent", "broken": ("blue",)}, "green", "green stays in use"),
    ],
    ids=[
        "it works",
        "it crashes at its start",
        "it fails in its probation",
        "it hands nothing over",
        "there is no way back",
    ],
)
def test_killed_at_any_step(tmp_path: Path, played, failure: dict, used: str, says: str) -> None:
    for number, after in ((number, after) for number in count(1) for after in (False, True)):
        machine = played(Machine(tmp_path / f"{number}-{after}", Host(**failure)))
        machine.kill_at, machine.after = number, after
        try:
            said = machine.deploy()
        except KilledError:
            said = machine.deploy()
        assert says in said, number
        assert bool(said) == bool(says), number
        assert machine.site.enabled == used, number
        other = next(colour for colour in COLOURS if colour != used)
        assert machine.host.runners == {used: AT_WORK, other: DOWN}
        assert machine.host.services == {used: AT_WORK, other: DOWN}
        assert len(machine.host.took_over) <= 2, "the lease went to and fro"
        assert bool(failed_deployment(machine.site.config)) == ("stays" in says)
        if machine.kill_at > 0:  # every change has killed it once
            break
    assert number > 5
