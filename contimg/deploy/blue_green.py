"""Blue-green deployment: one release takes over from another, as a pure function of the host's state.

The new runner starts beside the old runner and stands by without the lease; the old runner hands lease and running
calls over, and stands by in turn, to follow at once if the new runner fails. All progress is in the state file and on
the host: a deployment that is killed and called again continues from there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from contimg.deploy.host_paths import COLOURS
from contimg.runner.loop import STANDS_BY

READY_S = 60.0
"""Longest time (s) for a runner to stand by, and for the new runner then to be ready."""
RESTARTS = 2
"""Number of restarts by systemd after which a runner counts as unable to start."""
ELSEWHERE = "another process"
"""Holder of a lease that neither release's runner has."""


class Phase(StrEnum):
    """Phase of a deployment; stored in its state file."""

    CHECK = "check"
    TAKE_OVER = "take over"
    PROBATION = "probation"
    FINISH = "finish"
    DONE = "done"
    BACK = "go back"
    GONE_BACK = "gone back"
    STAY = "stay"

    @property
    def ended(self) -> bool:
        """Whether the deployment has ended."""
        return self in (Phase.DONE, Phase.GONE_BACK)


@dataclass(frozen=True)
class Deployment:
    """State of a deployment, as in its state file.

    Attributes
    ----------
    new
        Colour of the release that takes over.
    release
        Environment of that release.
    serves
        Whether the HTTP service is in use.
    was_ready
        Readiness reported by the service before the deployment.
    since
        Start of the phase (Unix, s).
    reason
        Reason for going back, or for which it was not possible.
    """

    new: str
    release: str
    serves: bool
    was_ready: bool
    phase: Phase
    since: float
    reason: str = ""

    @property
    def old(self) -> str:
        """Colour of the release that gives way."""
        return next(colour for colour in COLOURS if colour != self.new)


@dataclass(frozen=True)
class UnitState:
    """State of a systemd unit: `ActiveState` and the time of its last change (Unix, s), `StatusText`, restarts."""

    state: str
    status: str = ""
    restarts: int = 0
    since: float = 0.0

    @property
    def down(self) -> bool:
        """Whether the unit neither runs nor starts."""
        return self.state in ("inactive", "failed")

    @property
    def stands_by(self) -> bool:
        """Whether the runner waits for the lease, with its slow imports done; a runner that handed over is active."""
        return self.state in ("activating", "active") and self.status.startswith(STANDS_BY)

    @property
    def stops(self) -> bool:
        """Whether the unit is stopping: its runner waits for the calls that it has handed over."""
        return self.state == "deactivating"

    def cannot_start(self, asked: float, now: float) -> bool:
        """Whether the runner, needed since a time (Unix, s), has been restarted too often or takes too long."""
        if self.state == "active" or self.stands_by or self.stops:
            return False
        return self.restarts >= RESTARTS or now - max(asked, self.since) > READY_S


@dataclass(frozen=True)
class HostState:
    """State of the host at one moment.

    Attributes
    ----------
    now
        Unix time (s).
    runners, services
        Units of each colour.
    holder
        Colour of the runner that holds the lease, or `ELSEWHERE`; empty without a holder, or where that is not known.
    unknown
        Reason for which the holder is not known.
    answers, ready
        Whether the service answers, and whether it reports readiness (runner at work, products coming out).
    """

    now: float
    runners: Mapping[str, UnitState]
    services: Mapping[str, UnitState]
    holder: str
    unknown: str = ""
    answers: bool = True
    ready: bool = True


class Action(StrEnum):
    """Action of a step on a colour."""

    CHECK = "check"
    STAND_BY = "start its runner, to stand by"
    HAND_OVER = "have its runner hand over to the other"
    STOP = "stop its runner"
    SERVE = "start its service"
    STOP_SERVICE = "stop its service"
    USE = "have it start with the host"
    WAIT = "wait"
    ENTER = "enter the next phase"
    GIVE_UP = "give up"


@dataclass(frozen=True)
class Step:
    """Next step of a deployment: an action on a colour, and the phase that follows, with its reason."""

    action: Action
    colour: str = ""
    phase: Phase | None = None
    reason: str = ""

    @property
    def undoes(self) -> bool:
        """Whether the step goes back or gives up, for which one look at the host is not enough."""
        return self.phase == Phase.BACK or self.action == Action.GIVE_UP


WAIT = Step(Action.WAIT)


def next_step(deployment: Deployment, seen: HostState, probation_s: float) -> Step:
    """Next step of a deployment that has not ended.

    Parameters
    ----------
    probation_s
        Time (s) for which the new release has to work well before the old release is stopped.
    """
    steps = {
        Phase.CHECK: _check,
        Phase.TAKE_OVER: _take_over,
        Phase.FINISH: _finish,
        Phase.BACK: _go_back,
        Phase.STAY: _stay,
    }
    if deployment.phase == Phase.PROBATION:
        return _probation(deployment, seen, probation_s)
    return steps[deployment.phase](deployment, seen)


def _check(deployment: Deployment, _: HostState) -> Step:
    return Step(Action.CHECK, deployment.new, Phase.TAKE_OVER)


def _take_over(deployment: Deployment, seen: HostState) -> Step:
    new, old = deployment.new, deployment.old
    runner = seen.runners[new]
    if runner.restarts:
        return _back("its runner does not stay up")
    if seen.holder == new and runner.state == "active":
        if seen.runners[old].down and seen.now - deployment.since <= READY_S:
            return Step(Action.STAND_BY, old)
        return _move_port(deployment, seen, to=new) or Step(Action.ENTER, phase=Phase.PROBATION)
    if seen.now - deployment.since > READY_S:
        return _back(seen.unknown or f"its runner was not ready within {READY_S:.0f} s")
    if runner.down:
        return Step(Action.STAND_BY, new)
    return Step(Action.HAND_OVER, old) if seen.holder == old and runner.stands_by else WAIT


def _probation(deployment: Deployment, seen: HostState, probation_s: float) -> Step:
    runner = seen.runners[deployment.new]
    if seen.holder != deployment.new or runner.state != "active" or runner.restarts:
        return _back(seen.unknown or "its runner did not stay up in its probation")
    if deployment.serves and not seen.answers:
        return _back("its service did not answer in its probation")
    if deployment.was_ready and not seen.ready:
        return _back("it was not ready in its probation")
    if seen.now - deployment.since < probation_s:
        return WAIT
    return Step(Action.ENTER, phase=Phase.FINISH)


def _finish(deployment: Deployment, seen: HostState) -> Step:
    new, old = deployment.new, deployment.old
    if seen.holder != new:
        lost = seen.unknown or f"its runner lost the lease before that of {old} was stopped"
        return _give_up(deployment, lost) if deployment.reason else _back(lost)  # the old runner does not start
    in_use = Step(Action.USE, new, Phase.DONE)
    return _move_port(deployment, seen, to=new) or _stop(old, seen) or in_use


def _go_back(deployment: Deployment, seen: HostState) -> Step:
    new, old = deployment.new, deployment.old
    runner, other = seen.runners[old], seen.runners[new]
    if seen.holder == old:
        in_use = Step(Action.USE, old, Phase.GONE_BACK, deployment.reason)
        return _move_port(deployment, seen, to=old) or _stop(new, seen) or in_use
    if runner.cannot_start(deployment.since, seen.now):
        reason = f"{deployment.reason}; there is no way back, for the runner of {old} does not start"
        return Step(Action.ENTER, phase=Phase.STAY, reason=reason)
    if runner.down:
        return Step(Action.STAND_BY, old)
    if runner.stops or other.stops:
        return WAIT
    ended = other.since if other.down else 0.0
    waits_in_vain = seen.now - max(deployment.since, runner.since, ended) > READY_S
    if seen.holder == new and runner.stands_by:
        return Step(Action.STOP, new) if waits_in_vain else Step(Action.HAND_OVER, new)
    return _give_up(deployment, _held(seen)) if waits_in_vain else WAIT


def _stay(deployment: Deployment, seen: HostState) -> Step:
    """Step where the old runner cannot start: the new release stays in use if its runner works."""
    new = deployment.new
    runner = seen.runners[new]
    if seen.holder == new:
        return Step(Action.ENTER, phase=Phase.FINISH)
    if runner.cannot_start(deployment.since, seen.now):
        return _give_up(deployment, f"the runner of {new} does not start either")
    if runner.down:
        return Step(Action.STAND_BY, new)
    return _give_up(deployment, _held(seen)) if seen.now - deployment.since > READY_S else WAIT


def _give_up(deployment: Deployment, why: str) -> Step:
    return Step(Action.GIVE_UP, reason=f"{deployment.reason}; {why}")


def _held(seen: HostState) -> str:
    return seen.unknown or f"{seen.holder or 'nobody'} has the lease (state/runner.lock names its holder)"


def _stop(colour: str, seen: HostState) -> Step | None:
    """Step that stops a runner without the lease, once the calls that it handed over have ended; None when done."""
    runner = seen.runners[colour]
    if runner.down:
        return None
    return WAIT if runner.stops else Step(Action.STOP, colour)


def _move_port(deployment: Deployment, seen: HostState, *, to: str) -> Step | None:
    """Step that moves the port: start one colour's service, then stop the other's; None when done."""
    if not deployment.serves:
        return None
    other = next(colour for colour in COLOURS if colour != to)
    if seen.services[to].state != "active":
        return Step(Action.SERVE, to)
    if not seen.services[other].down:
        return Step(Action.STOP_SERVICE, other)
    return None


def _back(reason: str) -> Step:
    return Step(Action.ENTER, phase=Phase.BACK, reason=reason)
