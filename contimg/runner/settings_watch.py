"""Settings read again while the runner works: on SIGHUP, when their file changed, or when the service asks.

A request is `state/reload.json`, its answer `state/reload.answer.json`: so it works over users and containers, and
one that comes while no runner works is answered by the next one.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.config import Settings, differences
from contimg.core.errors import ConfigError
from contimg.core.paths import DataRoot

log = logging.getLogger(__name__)

AT_START = ("logging.format", "service.host", "service.port")
"""Settings that take effect at the next start of runner or service only."""


@dataclass(frozen=True)
class Asked:
    """Why the settings are read again.

    Attributes
    ----------
    by
        Who asked.
    request
        Id of the service's request; empty for other reasons.
    """

    by: str
    request: str = ""


class SettingsWatch:
    """Notices reasons to read the settings again, and says what came of it.

    Parameters
    ----------
    path
        The settings file.
    """

    def __init__(self, root: DataRoot, path: Path) -> None:
        self._root = root
        self._path = path
        self._seen = _state(path)
        self._answered = _id(_read(answer_path(root)))
        self.refused = False
        """Whether the settings as they now are were refused."""

    def asked(self, *, signalled: bool, watched: bool) -> Asked | None:
        """Look for a reason to read the settings again.

        Parameters
        ----------
        signalled
            Whether SIGHUP came.
        watched
            Whether a changed file is a reason.
        """
        request = _read(request_path(self._root))
        changed = _state(self._path) != self._seen
        if _id(request) != self._answered:
            asked = Asked(str(request.get("by", "")), _id(request))
        elif signalled:
            asked = Asked("SIGHUP")
        elif watched and changed:
            asked = Asked(f"a change of {self._path}")
        else:
            return None
        self._seen = _state(self._path)
        return asked

    def read(
        self, asked: Asked, load: Callable[[], Settings], now: Settings, change: Callable[[Settings], None]
    ) -> None:
        """Read the settings and put them in force; bad ones, and a disk with no room for them, change nothing."""
        problem, changed = "", {}
        try:
            settings = load()
            if settings.data_root != now.data_root:
                raise ConfigError("data_root: cannot change while running; stop, and start with the other one")
            changed = {key: [str(one) for one in both] for key, both in differences(now, settings).items()}
            change(settings)
            for key, (before, after) in changed.items():
                log.warning("setting %s: %s → %s (asked by %s)", key, before, after, asked.by)
        except (ConfigError, OSError) as error:
            problem, changed = str(error), {}
            log.error("the settings were not changed: %s (asked by %s)", error, asked.by)
        self.refused = bool(problem)
        if asked.request:
            self._answered = asked.request
            content = {
                "id": asked.request,
                "at": datetime.now(UTC).isoformat(timespec="seconds"),
                "outcome": "refused" if problem else "applied",
                "problem": problem,
                "differences": changed,
                "at_next_start": sorted(key for key in changed if key in AT_START),
            }
            try:
                files.write_json(answer_path(self._root), content)
            except OSError as error:
                log.warning("the answer to %s could not be written: %s", asked.by, error)


def request_path(root: DataRoot) -> Path:
    """File of a request to read the settings again."""
    return root.state / "reload.json"


def answer_path(root: DataRoot) -> Path:
    """File of the runner's answer."""
    return root.state / "reload.answer.json"


def ask(root: DataRoot, by: str) -> str:
    """Ask the runner to read its settings again; returns the request's id.

    Raises
    ------
    OSError
        If the request cannot be written.
    """
    number = uuid.uuid4().hex
    files.write_json(
        request_path(root), {"id": number, "by": by, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    )
    return number


def answer(root: DataRoot, number: str) -> dict[str, Any] | None:
    """Answer of the runner to a request; None while there is none."""
    content = _read(answer_path(root))
    return content if _id(content) == number else None


def _read(path: Path) -> dict[str, Any]:
    try:
        content = files.read_json(path)
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _id(content: dict[str, Any]) -> str:
    return str(content.get("id", ""))


def _state(path: Path) -> tuple[int, int, int] | None:
    """Identity of a file's content, changed by every write or replacement; None while it cannot be read."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
