"""Settings reload while the runner works: on SIGHUP, after a change of the file, or at the service's request.

A request is `state/reload.json`, its answer `state/reload.answer.json`: files work across users and containers, and
the next runner answers a request that came while none worked.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from contimg.core import files
from contimg.core.config import Settings, differences
from contimg.core.errors import ConfigError, in_words
from contimg.core.paths import DataRoot

log = logging.getLogger(__name__)

AT_START = ("logging.format", "service.host", "service.port")
"""Settings that take effect only at the next start of runner or service."""


@dataclass(frozen=True)
class ReloadRequest:
    """Reason for a reload of the settings.

    Attributes
    ----------
    by
        Name of the requester.
    request
        Id of the service's request; empty for other reasons.
    """

    by: str
    request: str = ""


class SettingsWatch:
    """Watch for reasons to reload the settings, with answers to requests.

    Parameters
    ----------
    path
        Path of the settings file.
    """

    def __init__(self, root: DataRoot, path: Path) -> None:
        self._root = root
        self.path = path
        self._seen = _state(path)
        self._answered = _id(files.read_json_if_any(answer_path(root)))
        self.refused = False
        """Whether the current settings were refused as invalid."""

    def asked(self, *, signalled: bool, watched: bool) -> ReloadRequest | None:
        """Reason to reload the settings; None without one.

        Parameters
        ----------
        signalled
            Whether SIGHUP came.
        watched
            Whether a changed file counts as a reason.
        """
        request = files.read_json_if_any(request_path(self._root))
        changed = _state(self.path) != self._seen
        if _id(request) != self._answered:
            asked = ReloadRequest(str(request.get("by", "")), _id(request))
        elif signalled:
            asked = ReloadRequest("SIGHUP")
        elif watched and changed:
            asked = ReloadRequest(f"a change of {self.path}")
        else:
            return None
        self._seen = _state(self.path)
        return asked

    def read(
        self, asked: ReloadRequest, load: Callable[[], Settings], now: Settings, change: Callable[[Settings], None]
    ) -> None:
        """Reload the settings and put them in force; invalid settings, or a full disk, change nothing."""
        problem, changed = "", {}
        try:
            settings = load()
            if settings.data_root != now.data_root:
                raise ConfigError("data_root: cannot change while running; stop, and start with the other one")
            changed = {key: [str(value) for value in both] for key, both in differences(now, settings).items()}
            change(settings)
            for key, (before, after) in changed.items():
                log.warning("setting %s: %s → %s (asked by %s)", key, before, after, asked.by)
        except (ConfigError, OSError) as error:
            problem, changed = in_words(error), {}
            log.error("the settings were not changed: %s (asked by %s)", problem, asked.by)
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
                log.warning("the answer to %s could not be written: %s", asked.by, in_words(error))


def request_path(root: DataRoot) -> Path:
    """Path of a reload request."""
    return root.state / "reload.json"


def answer_path(root: DataRoot) -> Path:
    """Path of the runner's answer."""
    return root.state / "reload.answer.json"


def request_reload(root: DataRoot, number: str, by: str) -> None:
    """Request a reload of the settings by the runner, under an id of its own.

    Raises
    ------
    OSError
        If the request cannot be written.
    """
    files.write_json(
        request_path(root), {"id": number, "by": by, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    )


def reload_answer(root: DataRoot, number: str) -> dict[str, Any] | None:
    """Answer of the runner to a request; None before the answer."""
    content = files.read_json_if_any(answer_path(root))
    return content if _id(content) == number else None


def _id(content: dict[str, Any]) -> str:
    return str(content.get("id", ""))


def _state(path: Path) -> tuple[int, int, int] | None:
    """Identity of a file's content, changed by every write or replacement; None if unreadable."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
