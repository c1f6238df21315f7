"""Blue-green deployment on a host: its state, the steps, and the state file from which any call continues."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import requests

from contimg.core import config, files
from contimg.core.errors import DeploymentError, InstallationError, LeaseError
from contimg.core.paths import DataRoot
from contimg.core.release import DEPLOYMENT
from contimg.deploy.blue_green import ELSEWHERE, Action, Deployment, HostState, Phase, Step, UnitState, next_step
from contimg.deploy.host_paths import COLOURS, HostPaths, listen_address, units_of
from contimg.deploy.install import apply, link_step, systemctl
from contimg.execute.lease import holder

PROBATION_S = 300.0
"""Time (s) for which a new release has to work well, about the length of a group."""
_LOOK_S = 0.5
_LOOKS = 3
"""Number of looks in a row that have to say so before a deployment goes back or gives up."""
_ANSWER_S = 5.0
_CHECK_S = 1200.0
_ASKED = "a person asked for it"


class Host:
    """Host of a site: its units, lease and service.

    Raises
    ------
    ConfigError
        If the settings are invalid.
    """

    def __init__(self, site: HostPaths) -> None:
        self._root = DataRoot(config.load(site.config, {}).data_root)
        self._url = f"http://{listen_address(site)}"

    def see(self) -> HostState:
        """State of units, lease and service."""
        runners = {colour: _unit(f"contimg@{colour}") for colour in COLOURS}
        services = {colour: _unit(f"contimg-serve@{colour}")[0] for colour in COLOURS}
        held, unknown = None, ""
        try:
            held = holder(self._root)
        except LeaseError as error:
            unknown = str(error)
        pid = held.pid if held and held.holds else 0
        having = next((colour for colour, (_, main) in runners.items() if main == pid), ELSEWHERE) if pid else ""
        return HostState(
            time.time(),
            {colour: unit for colour, (unit, _) in runners.items()},
            services,
            having,
            unknown,
            answers=self._says("/livez"),
            ready=self._says("/readyz"),
        )

    def _says(self, page: str) -> bool:
        try:
            return requests.get(self._url + page, timeout=_ANSWER_S).status_code == requests.codes.ok
        except requests.RequestException:
            return False

    def do(self, step: Step) -> None:
        """Perform a step on a colour's units; a repeated step is harmless.

        Raises
        ------
        InstallationError
            If systemd fails.
        """
        runner, service = f"contimg@{step.colour}", f"contimg-serve@{step.colour}"
        if step.action == Action.CHECK:
            try:
                systemctl("start", f"contimg-check@{step.colour}", limit_s=_CHECK_S)
            except InstallationError as error:
                said = f"journalctl -u contimg-check@{step.colour} says why"
                raise InstallationError(f"its checks did not pass; {said}") from error
        elif step.action == Action.STAND_BY:
            systemctl("start", "--no-block", runner)
            time.sleep(_LOOK_S)
        elif step.action == Action.HAND_OVER:
            systemctl("kill", "--kill-who=main", "--signal=USR1", runner)
            time.sleep(_LOOK_S)
        elif step.action == Action.STOP:
            systemctl("stop", "--no-block", runner)
        elif step.action == Action.SERVE:
            systemctl("start", service)
        elif step.action == Action.STOP_SERVICE:
            systemctl("stop", service)
        elif step.action == Action.WAIT:
            time.sleep(_LOOK_S)


def deploy(
    site: HostPaths, release: Path | None, *, back: bool, probation_s: float, host: Host | None = None
) -> Iterator[str]:
    """Deploy a release, or continue an interrupted deployment; yields a line for every step.

    Parameters
    ----------
    release
        Environment of the new release; None to go back to the other installed release.
    back
        Go back to the previous release, out of an unfinished deployment or from the last one.
    probation_s
        Time (s) for which the new release has to work well.

    Raises
    ------
    DeploymentError
        If the deployment cannot begin, or went back to the old release.
    InstallationError
        If the site has no installation, or systemd cannot do a step.
    """
    host = host or Host(site)
    deployment = _begun(site, release, host.see(), back=back)
    _write(site, deployment)
    yield f"{deployment.new}: {deployment.release} ({deployment.phase})"
    while not deployment.phase.ended:
        try:
            step = _looked(deployment, host, probation_s)
            if step.action == Action.USE:
                _use(step.colour)
            else:
                host.do(step)
            if step.action == Action.GIVE_UP:
                raise DeploymentError(f"{deployment.release}: {step.reason}; mend that, then call it with --rollback")
        except InstallationError as error:
            if deployment.phase in (Phase.FINISH, Phase.BACK, Phase.STAY):
                raise
            step = Step(Action.ENTER, phase=Phase.BACK, reason=str(error))
        if step.phase:
            reason = step.reason or deployment.reason
            deployment = replace(deployment, phase=step.phase, since=time.time(), reason=reason)
            _write(site, deployment)
            yield f"{deployment.new}: {step.phase}{f': {step.reason}' if step.reason else ''}"
        elif step.action != Action.WAIT:
            yield f"{step.colour}: {step.action}"
    if deployment.phase == Phase.GONE_BACK and deployment.reason != _ASKED:
        raise DeploymentError(f"{deployment.release}: {deployment.reason}; {deployment.old} is in use as before")
    if deployment.phase == Phase.DONE and deployment.reason:
        raise DeploymentError(f"{deployment.release}: {deployment.reason}; {deployment.new} stays in use")


def _looked(deployment: Deployment, host: Host, probation_s: float) -> Step:
    """Next step, by one look at the host, or by several in a row if it goes back or gives up.

    Raises
    ------
    InstallationError
        If systemd does not answer.
    """
    for number in range(1, _LOOKS + 1):
        try:
            step = next_step(deployment, host.see(), probation_s)
            if not step.undoes:
                break
        except InstallationError:
            if number == _LOOKS:
                raise
        if number < _LOOKS:
            time.sleep(_LOOK_S)
    return step


def status(site: HostPaths) -> Iterator[str]:
    """Lines on the last deployment and on the two releases that can be installed.

    Raises
    ------
    DeploymentError
        If the state file cannot be read.
    ConfigError
        If the settings are invalid.
    InstallationError
        If systemd does not answer.
    """
    last, seen = _read(site), Host(site).see()
    if last:
        since = datetime.fromtimestamp(last.since, UTC).isoformat(timespec="seconds")
        yield f"{last.new}: {last.release} ({last.phase}, since {since}{f': {last.reason}' if last.reason else ''})"
    if seen.unknown:
        yield seen.unknown
    for colour in COLOURS:
        link = site.release(colour)
        runner, service = seen.runners[colour], seen.services[colour]
        said = [
            str(link.readlink()) if link.is_symlink() else "not installed",
            f"runner {runner.state}{f' ({runner.status})' if runner.status else ''}",
            f"service {service.state}",
            *(["has the lease"] if seen.holder == colour else []),
            *(["starts with the host"] if site.enabled == colour else []),
        ]
        yield f"{colour}: {', '.join(said)}"


def _begun(site: HostPaths, release: Path | None, seen: HostState, *, back: bool) -> Deployment:
    before = _read(site)
    if before and not before.phase.ended:
        if back:
            return replace(before, phase=Phase.BACK, since=time.time(), reason=_ASKED)
        if release is None or str(release) == before.release:
            return before
        raise DeploymentError(
            f"{before.release}: its deployment has not ended ({before.phase}); call it again, or with --rollback"
        )
    used = site.enabled
    new = next(colour for colour in COLOURS if colour != used)
    if seen.holder != used:
        gone = f"contimg@{used}: does not run, so nobody can take over from it; systemctl start contimg"
        raise DeploymentError(seen.unknown or gone)
    if back:
        if not site.release(new).is_symlink():
            raise DeploymentError(f"{site.release(new)}: no other release is installed; name one")
        release = site.release(new).readlink()
    if release is None or not (release / "bin" / "contimg").exists():
        raise DeploymentError(f"{release}: holds no bin/contimg; name the environment of a release")
    apply(link_step(site, new, release))
    phase = Phase.TAKE_OVER if back else Phase.CHECK
    serves = seen.services[used].state == "active"
    return Deployment(new, str(release), serves, serves and seen.ready, phase, time.time())


def _use(colour: str) -> None:
    """Start one release at boot and not the other, whose link stays for going back."""
    systemctl("enable", *units_of(colour))
    for other in COLOURS:
        if other != colour:
            systemctl("disable", *units_of(other))


def _unit(name: str) -> tuple[UnitState, int]:
    """State of a unit, and its main process."""
    wanted = "--property=ActiveState,StatusText,NRestarts,MainPID,StateChangeTimestamp"
    said = systemctl("show", "--timestamp=unix", wanted, name)
    values = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    since = float(values.get("StateChangeTimestamp", "").removeprefix("@") or 0)
    restarts = int(values.get("NRestarts", "0"))
    return UnitState(values["ActiveState"], values.get("StatusText", ""), restarts, since), int(values["MainPID"])


def _path(site: HostPaths) -> Path:
    return site.settings / DEPLOYMENT


def _read(site: HostPaths) -> Deployment | None:
    try:
        content = files.read_json(_path(site))
        return Deployment(**{**content, "phase": Phase(content["phase"])})
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DeploymentError(f"{_path(site)}: cannot be read ({error}); remove it to begin anew") from error


def _write(site: HostPaths, deployment: Deployment) -> None:
    try:
        files.write_json(_path(site), asdict(deployment), mode=0o644)  # the runner reads it, as another user
    except OSError as error:
        raise DeploymentError(
            f"{_path(site)}: cannot be written ({error.strerror}); nothing more was done"
        ) from error
