"""Installation of the service on a host: user, folders, settings, systemd units.

Every step changes only missing parts, so that an installation can be repeated; a record of its changes lets it be
undone. The data root, and files that a person has edited since, are never removed.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from contimg.core import files, processes
from contimg.core.errors import InstallationError
from contimg.core.release import CHECKOUT
from contimg.deploy.host_paths import UNITS, HostPaths, unit_text, units_of

_LIMIT_S = 60


@dataclass
class InstallRecord:
    """Record of an installation: folders, files with their checksums, the user."""

    user: str = ""
    folders: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, site: HostPaths) -> InstallRecord:
        """Record of an earlier installation; empty before the first.

        Raises
        ------
        InstallationError
            If the record cannot be read.
        """
        try:
            return cls(**files.read_json(site.record))
        except FileNotFoundError:
            return cls()
        except (ValueError, TypeError) as error:
            raise InstallationError(f"{site.record}: cannot be read ({error}); remove it to install anew") from error


@dataclass(frozen=True)
class InstallStep:
    """Installation step: description, test whether it is done, action."""

    text: str
    present: Callable[[], bool]
    make: Callable[[], None]


def install(site: HostPaths, *, dry_run: bool) -> Iterator[str]:
    """Install the service; yields a line for every step.

    Parameters
    ----------
    dry_run
        Only report the steps.

    Raises
    ------
    InstallationError
        If a step fails; finished steps stay, and the next call continues from there.
    """
    check(site)
    record = InstallRecord.of(site)
    for step in _steps(site, record):
        if step.present():
            yield f"is there: {step.text}"
        elif dry_run:
            yield f"would make: {step.text}"
        else:
            apply(step)
            files.write_json(site.record, vars(record))
            yield f"made: {step.text}"
    if not dry_run:
        _reload_units(site)


def undo(site: HostPaths, *, dry_run: bool) -> Iterator[str]:
    """Undo an installation; yields a line for every step. The data root stays as it is.

    Raises
    ------
    InstallationError
        If nothing was installed, or a step fails.
    """
    record = InstallRecord.of(site)
    if not (record.files or record.folders or record.user):
        raise InstallationError(f"{site.record}: no record of an installation here; nothing was removed")
    gone = "would remove" if dry_run else "removed"
    for path in _removable_files(site, record):
        if not dry_run:
            if path.parent == site.units:
                systemctl("stop", path.name.replace("@.", "@*."))
                systemctl("disable", path.name)
            path.unlink()
        yield f"{gone}: {path}"
    if not dry_run:
        site.record.unlink(missing_ok=True)
        _reload_units(site)
    for folder in (Path(name) for name in reversed(record.folders)):
        if site.data_root == folder or site.data_root in folder.parents:
            yield f"stays, for it holds data: {folder}"
        elif dry_run or (folder.is_dir() and not any(folder.iterdir())):
            if not dry_run:
                folder.rmdir()
            yield f"{gone}: {folder}"
    if record.user:
        if not dry_run:
            _must("userdel", record.user)
        yield f"{gone}: user {record.user}"


def _removable_files(site: HostPaths, record: InstallRecord) -> list[Path]:
    """Recorded files that still exist: the units, and other files if unedited."""
    there = [(Path(name), checksum) for name, checksum in reversed(record.files.items()) if os.path.lexists(name)]
    return [path for path, checksum in there if path.parent == site.units or _checksum(path) == checksum]


def check(site: HostPaths) -> None:
    """Check that the units can start.

    Raises
    ------
    InstallationError
        If the command is missing, the units may not read its Python, or this user is not root.
    """
    if os.geteuid() != 0:
        raise InstallationError("contimg install: makes a user and units of the system; call it as root")
    if not shutil.which("systemctl"):
        raise InstallationError("systemctl: there is no systemd here; use deploy/contimg.cron instead")
    if not os.access(site.contimg, os.X_OK):
        raise InstallationError(f"{site.contimg}: is not a command; name the environment with --prefix")
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,30}", site.user):
        raise InstallationError(f"{site.user}: is no name of a system user; give another with --user")
    for path in (site.data_root, site.settings, site.contimg):
        if re.search(r"[\s%\"'\\]", str(path)):
            raise InstallationError(f"{path}: blanks, quotes, % and \\ cannot stand in a unit; choose another path")
    interpreter = Path(site.contimg.read_text("utf-8", "replace").partition("\n")[0].removeprefix("#!")).resolve()
    for path in (site.contimg.resolve(), interpreter, Path(sys.base_prefix) if _own(site) else interpreter):
        if path.is_relative_to("/root") or path.is_relative_to("/home"):
            raise InstallationError(
                f"{path}: the units may not read /root and /home; set up with a Python elsewhere"
                " (PYENV_ROOT=/opt/pyenv make setup, or Debian's own)"
            )


def _own(site: HostPaths) -> bool:
    """Whether the command to install belongs to the running environment."""
    return site.contimg.parent == Path(sys.prefix) / "bin"


def _steps(site: HostPaths, record: InstallRecord) -> Iterator[InstallStep]:
    yield InstallStep(
        f"user {site.user}",
        lambda: _user_id(site.user) is not None,
        lambda: _make_user(site.user, record),
    )
    for folder, mode, owned in (
        (site.data_root, 0o750, True),
        (site.data_root / "incoming", 0o775, True),
        (site.data_root / "logs", 0o750, True),
        (site.settings, 0o755, False),
        (site.settings / "releases", 0o755, False),
        (site.settings / "secrets", 0o700, False),
    ):
        yield InstallStep(str(folder), folder.is_dir, partial(_make_folder, folder, mode, owned, site, record))
    settings = (CHECKOUT / "config" / "config.yaml").read_text("utf-8")
    settings = re.sub(r"^# data_root: .*$", f"data_root: {site.data_root}", settings, count=1, flags=re.M)
    yield _file_step(site.config, settings, 0o640, site, record)
    yield link_step(site, site.enabled, site.contimg.parent.parent, record)
    secrets = "# Secrets, one CONTIMG_NAME=value a line, without quotes; read when a unit starts.\n"
    yield _file_step(site.settings / "environment", secrets, 0o600, site, record)
    for unit in UNITS:
        yield _file_step(site.units / unit, unit_text(unit, site), 0o644, site, record, replaced=True)
    yield InstallStep(
        f"contimg@{site.enabled} as the release in use", partial(_is_enabled, site), partial(_enable, site)
    )


def link_step(site: HostPaths, colour: str, environment: Path, record: InstallRecord | None = None) -> InstallStep:
    """Step that links a colour to the environment of its release."""
    link = site.release(colour)

    def make() -> None:
        part = link.with_name(f".{colour}.part")
        part.unlink(missing_ok=True)
        part.symlink_to(environment)
        part.rename(link)
        if record:
            record.files[str(link)] = _checksum(link)

    return InstallStep(f"{link} → {environment}", lambda: link.is_symlink() and link.readlink() == environment, make)


def _is_enabled(site: HostPaths) -> bool:
    links = (
        site.units / f"{name}.service.wants" / f"{name}@{site.enabled}.service"
        for name in ("contimg", "contimg-serve")
    )
    return all(link.is_symlink() for link in links)


def _enable(site: HostPaths) -> None:
    _reload_units(site)
    systemctl("enable", *units_of(site.enabled))


def _file_step(
    path: Path, text: str, mode: int, site: HostPaths, record: InstallRecord, *, replaced: bool = False
) -> InstallStep:
    """Step that writes a file; an existing file stays, unless `replaced` is true and its content differs."""

    def present() -> bool:
        return path.exists() and (not replaced or path.read_text("utf-8") == text)

    def make() -> None:
        with files.atomic_write(path) as part:
            part.write_text(text, "utf-8")
            part.chmod(mode)
            if mode & 0o044 != 0o044:
                shutil.chown(part, *((site.user, site.user) if mode == 0o600 else ("root", site.user)))
        record.files[str(path)] = _checksum(path)

    return InstallStep(str(path), present, make)


def _make_user(user: str, record: InstallRecord) -> None:
    home = f"/var/lib/{user}"
    _must(
        "useradd",
        "--system",
        "--user-group",
        "--home-dir",
        home,
        "--create-home",
        "--shell",
        "/usr/sbin/nologin",
        user,
    )
    record.user = user


def _make_folder(folder: Path, mode: int, owned: bool, site: HostPaths, record: InstallRecord) -> None:
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True)
    folder.chmod(mode)
    if owned:
        shutil.chown(folder, site.user, site.user)
    record.folders.extend(str(path) for path in reversed(missing))


def _user_id(user: str) -> int | None:
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


def _checksum(path: Path) -> str:
    content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
    return hashlib.sha256(content).hexdigest()


def apply(step: InstallStep) -> None:
    """Perform a step.

    Raises
    ------
    InstallationError
        If the step fails.
    """
    try:
        step.make()
    except OSError as error:
        raise InstallationError(f"{step.text}: {error.strerror or error}; mend it and install again") from error


def _reload_units(site: HostPaths) -> None:
    if site.units == HostPaths.units:
        systemctl("daemon-reload")


def systemctl(*arguments: str, limit_s: float = _LIMIT_S) -> str:
    """Call systemctl; returns its output.

    Raises
    ------
    InstallationError
        If the call fails.
    """
    return _must("systemctl", *arguments, limit_s=limit_s)


def _must(*command: str, limit_s: float = _LIMIT_S) -> str:
    """Run a system command; returns its output.

    Raises
    ------
    InstallationError
        If the command fails.
    """
    try:
        done = processes.output(command, limit_s)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallationError(f"{command[0]}: {error}; mend it and install again") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        why = said[-1] if said else f"exit code {done.returncode}"
        raise InstallationError(f"{' '.join(command[:3])}: {why}; mend it and install again")
    return done.stdout
