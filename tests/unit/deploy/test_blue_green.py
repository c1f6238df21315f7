"""The plan of a deployment, against a host in which runners hold a lease and fail when they are told to."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from contimg.deploy.blue_green import READY_S, Action, Deployment, HostState, Phase, Step, UnitState, next_step

DOWN, AT_WORK = UnitState("inactive"), UnitState("active", "at work")
STANDS_BY = UnitState("activating", "stands by: a runner is at work")
HANDED_OVER = replace(STANDS_BY, state="active")
STOPS = UnitState("deactivating", HANDED_OVER.status)
BEGUN = Deployment("green", "/opt/new", True, True, Phase.CHECK, 0.0)


@dataclass
class Host:
    """A host whose runners take the lease when it is free.

    Attributes
    ----------
    fails
        Phase in which green fails.
    how
        `crash`: its runner ends; `crash at work`: it does once it has the lease; `hang`: it never becomes ready;
        `silent`: its service does not answer.
    gave_way
        Runner that handed over last, and leaves the lease to the other.
    """

    fails: Phase | None = None
    how: str = "crash"
    now: float = 0.0
    runners: dict[str, UnitState] = field(default_factory=lambda: {"blue": AT_WORK, "green": DOWN})
    services: dict[str, UnitState] = field(default_factory=lambda: {"blue": AT_WORK, "green": DOWN})
    holder: str = "blue"
    took_over: list[str] = field(default_factory=list)
    gave_way: str = ""

    def see(self, deployment: Deployment) -> HostState:
        self.now += 1
        failing = deployment.phase == self.fails
        crashes = self.how == "crash" or (self.how == "crash at work" and self.holder == "green")
        if failing and crashes and self.runners["green"] != DOWN:
            self.runners["green"] = replace(STANDS_BY, restarts=1)
            self.holder = "" if self.holder == "green" else self.holder
        for colour in sorted(self.runners, key=lambda colour: colour == self.gave_way):
            unit = self.runners[colour]
            if unit == STOPS:
                self.runners[colour] = DOWN
            if not self.holder and unit.stands_by and not unit.restarts:
                self.holder = colour
                self.took_over.append(colour)
                hangs = failing and self.how == "hang"
                self.runners[colour] = UnitState("activating", "starts") if hangs and colour == "green" else AT_WORK
        answers = not (failing and self.how == "silent")
        assert self.holder, "nobody has the lease"
        assert "active" in {unit.state for unit in self.services.values()}, "the port was let go"
        return HostState(self.now, dict(self.runners), dict(self.services), self.holder, answers, answers)

    def do(self, action: Action, colour: str) -> None:
        if action == Action.STAND_BY:
            assert self.runners[colour].down
            self.runners[colour] = STANDS_BY
        elif action == Action.HAND_OVER:
            assert self.holder == colour
            self.runners[colour], self.holder, self.gave_way = HANDED_OVER, "", colour
        elif action == Action.STOP:
            assert self.holder != colour
            assert self.runners[colour] != STOPS, "a second signal would end the calls that it handed over"
            self.runners[colour] = STOPS
        elif action == Action.SERVE:
            self.services[colour] = AT_WORK
        elif action == Action.STOP_SERVICE:
            self.services[colour] = DOWN
        elif action == Action.WAIT:
            self.now += 5


def deployed(host: Host, deployment: Deployment = BEGUN) -> Deployment:
    """A deployment at its end."""
    for _ in range(200):
        step = next_step(deployment, host.see(deployment), 60)
        if step.action in (Action.CHECK, Action.USE):
            phase = Phase.TAKE_OVER if step.action == Action.CHECK else Phase.DONE
            deployment = replace(deployment, phase=phase, since=host.now)
        elif step.phase:
            deployment = replace(deployment, phase=step.phase, since=host.now, reason=step.reason)
        else:
            host.do(step.action, step.colour)
        if deployment.phase.ended:
            return deployment
    raise AssertionError(f"no end: {deployment} {host}")


def test_green_takes_over_once_and_blue_is_stopped() -> None:
    host = Host()
    assert deployed(host).phase == Phase.DONE
    assert host.took_over == ["green"]
    assert host.runners == {"blue": DOWN, "green": AT_WORK}
    assert host.services == {"blue": DOWN, "green": AT_WORK}
    assert host.now > 60


def test_an_old_release_that_cannot_start_any_more_holds_nothing_up() -> None:
    """It shall stand by, in case the new one fails; it was started for ever, and no probation began."""
    host = Host(runners={"blue": DOWN, "green": AT_WORK}, holder="green")
    plan = replace(BEGUN, phase=Phase.TAKE_OVER)
    assert next_step(plan, host.see(plan), 60) == Step(Action.STAND_BY, "blue")
    host.now = READY_S
    assert next_step(plan, host.see(plan), 60) == Step(Action.SERVE, "green")


@pytest.mark.parametrize(
    ("phase", "how", "why"),
    [
        (Phase.TAKE_OVER, "crash", "does not stay up"),
        (Phase.TAKE_OVER, "crash at work", "does not stay up"),
        (Phase.TAKE_OVER, "hang", f"not ready within {READY_S:.0f} s"),
        (Phase.PROBATION, "crash", "did not stay up"),
        (Phase.PROBATION, "silent", "did not answer"),
    ],
)
def test_a_release_that_fails_gives_way(phase: Phase, how: str, why: str) -> None:
    host = Host(phase, how)
    ended = deployed(host)
    assert ended.phase == Phase.GONE_BACK
    assert why in ended.reason
    assert host.holder == "blue"
    assert host.runners == {"blue": AT_WORK, "green": DOWN}
    assert host.services == {"blue": AT_WORK, "green": DOWN}


def test_a_service_that_is_not_in_use_is_not_started() -> None:
    host = Host()
    host.services["blue"] = AT_WORK  # somebody else's port, which stays
    assert deployed(host, replace(BEGUN, serves=False)).phase == Phase.DONE
    assert host.services == {"blue": AT_WORK, "green": DOWN}


def test_going_back_on_request_from_the_probation() -> None:
    host = Host()
    host.runners, host.holder = {"blue": STANDS_BY, "green": AT_WORK}, "green"
    host.services = {"blue": DOWN, "green": AT_WORK}
    assert deployed(host, replace(BEGUN, phase=Phase.BACK)).phase == Phase.GONE_BACK
    assert host.took_over == ["blue"]
    assert host.services == {"blue": AT_WORK, "green": DOWN}
