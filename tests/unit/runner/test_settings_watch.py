"""Settings read again: noticed, refused, answered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from contimg.core import config
from contimg.core.config import Settings
from contimg.core.paths import DataRoot
from contimg.runner.settings_watch import SettingsWatch, reload_answer, request_reload


@dataclass
class Site:
    """A settings file, what watches it, and what has been put in force."""

    folder: Path
    applied: list[Settings] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.write()
        self.root = DataRoot(self.folder / "root")
        self.root.state.mkdir(parents=True)
        self.now = config.load(self.path, {})
        self.watch = SettingsWatch(self.root, self.path)

    @property
    def path(self) -> Path:
        return self.folder / "config.yaml"

    def write(self, **sections: object) -> None:
        self.path.write_text(yaml.safe_dump({"data_root": str(self.folder / "root"), **sections}))

    def look(self, *, signalled: bool = False, watched: bool = True) -> str | None:
        asked = self.watch.asked(signalled=signalled, watched=watched)
        if asked is None:
            return None
        self.watch.read(asked, lambda: config.load(self.path, {}), self.now, self.applied.append)
        return asked.by


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_nothing_is_read_while_nothing_changes(site: Site) -> None:
    assert site.look() is None


def test_a_changed_file_is_noticed_once(site: Site) -> None:
    site.write(limits={"conversions": 1})
    assert site.look(watched=False) is None
    assert "config.yaml" in str(site.look())
    assert site.applied[0].limits.conversions == 1
    assert site.look() is None


def test_bad_settings_are_refused_in_one_line_until_they_are_good(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.write(limits={"conversions": 0})
    site.look()
    assert site.watch.refused
    assert site.applied == []
    assert [record.message for record in caplog.records if "limits.conversions" in record.message]
    site.write()
    site.look()
    assert not site.watch.refused


def test_a_request_is_answered_with_the_differences_and_without_secrets(site: Site) -> None:
    secret = "https://hooks.example.org/secret"  # noqa: S105
    site.write(limits={"conversions": 1}, alerts={"webhook": secret}, service={"port": 9000})
    number = "a request"
    request_reload(site.root, number, "an operator")
    assert reload_answer(site.root, number) is None
    assert site.look() == "an operator"
    said = reload_answer(site.root, number)
    assert said is not None
    assert said["outcome"] == "applied"
    assert said["differences"]["limits.conversions"] == ["2", "1"]
    assert said["at_next_start"] == ["service.port"]
    assert "secret" not in str(said)
    assert site.look() is None


def test_a_request_that_is_bad_is_refused_with_the_reason(site: Site) -> None:
    site.write(nonsense=1)
    number = "a request"
    request_reload(site.root, number, "an operator")
    site.look()
    said = reload_answer(site.root, number)
    assert said is not None
    assert said["outcome"] == "refused"
    assert "nonsense" in said["problem"]


def test_a_request_that_came_while_no_runner_worked_is_answered_by_the_next(site: Site) -> None:
    number = "a request"
    request_reload(site.root, number, "an operator")
    site.watch = SettingsWatch(site.root, site.path)
    assert site.look() == "an operator"
    site.watch = SettingsWatch(site.root, site.path)
    assert site.look() is None
    assert reload_answer(site.root, number)


def test_another_data_root_is_refused(site: Site, tmp_path: Path) -> None:
    site.path.write_text(yaml.safe_dump({"data_root": str(tmp_path / "other")}))
    site.look()
    assert site.watch.refused
