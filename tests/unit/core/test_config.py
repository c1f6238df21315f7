"""Settings: validated on load, unknown keys refused with their path."""

import json
from pathlib import Path

import pytest
import yaml

from contimg.core import config
from contimg.core.errors import ConfigError

CONFIG = Path(__file__).parents[3] / "config"


def test_the_shipped_file_documents_every_key_with_its_default():
    shipped = yaml.safe_load((CONFIG / "config.yaml").read_text())
    defaults = config.validated({"data_root": "/data"}, {}).model_dump(mode="json")
    del defaults["data_root"]
    assert shipped == defaults


def test_an_archive_that_a_link_leads_into_the_data_root_is_refused(tmp_path):
    (tmp_path / "root").mkdir()
    (tmp_path / "cold").symlink_to(tmp_path / "root")
    content = {"data_root": str(tmp_path / "root"), "archive": {"destination": str(tmp_path / "cold" / "deep")}}
    with pytest.raises(ConfigError, match=r"archive\.destination: must be outside the data root"):
        config.validated(content, {})


def test_the_shipped_schema_is_the_models():
    shipped = json.loads((CONFIG / "config.schema.json").read_text())
    assert shipped == config.Settings.model_json_schema(), "run: contimg config schema > config/config.schema.json"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({}, "data_root: is not given; correct the settings"),
        ({"data_root": "/d", "imaging": {"robut": 0}}, "imaging.robut: no such setting"),
        ({"data_root": "/d", "sky_catalogue": "sky.csv"}, "sky_catalogue: is a section; write lines of KEY: VALUE"),
        ({"data_root": "/d", "imaging": {"robust": "briggs"}}, "imaging.robust: Input should be a valid number"),
        ({"data_root": "/d", "ingest": {"min_subbands": 17}}, "ingest.min_subbands: Input should be less than"),
        ({"data_root": "/d", "mosaic": {"window_minutes": 50}}, "mosaic: window_minutes must divide"),
        ({"data_root": "/d", "calibration": {"nearest_within_hours": 1}}, "must not be less than validity_hours"),
        ({"data_root": "/d", "staging": 3}, "staging: is a section; write lines of KEY: VALUE"),
        ({"data_root": "/d", "archive": {"destination": "/d/cold"}}, "archive.destination: must be outside the data"),
        ({"data_root": "/d", "archive": {"destination": "/d"}}, "archive.destination: must be outside the data root"),
        ({"data_root": "/d/e", "archive": {"destination": "/d"}}, "archive.destination: .*, and not hold it"),
        ({"data_root": "/d", "backup": {"destination": "/x/../d/b"}}, "backup.destination: must be outside the data"),
        (
            {"data_root": "/d", "backup": {"destination": "sftp://me:secret@host"}},
            "backup.destination: .* rclone's own",
        ),
        ({"data_root": "/d", "archive": {"destination": ":sftp,pass=x:"}}, "archive.destination: .* rclone's own"),
        (
            {"data_root": "/d", "mosaic": {"window_minutes": 1440}, "retention": {"ms_days": 0.9}},
            "retention.ms_days: ",
        ),
        ({"data_root": "/d", "retention": {"image_days": 0.2}}, "retention.image_days: must not be shorter than"),
        ({"data_root": "/d", "retention": {"raw_mark": 1.0}}, "retention.raw_mark: Input should be less than 1"),
        ({"data_root": "/d", "groups": ["20260112T084512", "abc"]}, r"groups\.1: .*'abc' is no group's name"),
        ({"data_root": "/d", "groups": ["20261312T084512"]}, r"groups\.0: .*is no group's name"),
        ({"data_root": "/d", "groups": ["2026112T084512"]}, r"groups\.0: .*is no group's name"),
        ({"imaging": {"mask_sigma": 1, "threshold_sigma": 5}}, "imaging: threshold_sigma must not"),
        ({"flag": {"clip_sigma": float("inf")}}, "flag.clip_sigma: Input should be a finite number"),
    ],
)
def test_bad_settings_are_refused_with_the_keys_path(content, said):
    with pytest.raises(ConfigError, match=said):
        config.validated(content, {})


def test_every_bad_key_is_named_at_once():
    with pytest.raises(
        ConfigError, match=r"ingest\.wait: no such setting; .*flag\.rfi_sigma|flag\.rfi_sigma.*ingest\.wait"
    ):
        config.validated({"data_root": "/d", "ingest": {"wait": 1}, "flag": {"rfi_sigma": -1}}, {})


def test_the_environment_wins_over_the_file():
    settings = config.validated(
        {"data_root": "/d", "calibration": {"nearest_within_hours": 4}},
        {"CONTIMG_CALIBRATOR_STALENESS_HOURS": "8", "CONTIMG_DATA_ROOT": "/elsewhere", "HOME": "/home/x"},
    )
    assert settings.calibration.nearest_within_hours == 8
    assert settings.data_root == Path("/elsewhere")


def test_bad_and_unknown_variables_are_refused():
    with pytest.raises(ConfigError, match="CONTIMG_STALENESS: no such setting"):
        config.validated({"data_root": "/d"}, {"CONTIMG_STALENESS": "8"})
    with pytest.raises(ConfigError, match=r"limits\.images: .*integer"):
        config.validated({"data_root": "/d"}, {"CONTIMG_MAX_CONCURRENT_IMAGES": "many"})


def test_the_environment_fills_a_section_that_was_left_empty():
    variables = {"CONTIMG_SLACK_WEBHOOK_URL": "https://hooks.example/x"}
    settings = config.validated({"data_root": "/d", "alerts": None}, variables)
    assert settings.alerts.slack_webhook_url.get_secret_value() == "https://hooks.example/x"
    for content in ("on", ["slack"], 3):
        with pytest.raises(ConfigError, match="alerts: holds no settings"):
            config.validated({"data_root": "/d", "alerts": content}, variables)


def test_a_file_that_is_no_mapping_is_refused(tmp_path):
    for text in (b"- a list", b"{unclosed", b"", b"data_root: /d\xff", b"data_root: 2026-13-45"):
        path = tmp_path / "config.yaml"
        path.write_bytes(text)
        with pytest.raises(ConfigError):
            config.load(path, {})


def test_a_setting_that_has_no_effect_any_more_is_told_and_harms_nothing(tmp_path, caplog):
    settings = config.validated({"data_root": str(tmp_path), "runner": {"lease_seconds": 30, "poll_seconds": 2}}, {})
    assert settings.runner.poll_seconds == 2
    assert "runner.lease_seconds: has no effect any more" in caplog.text


def test_settings_without_secrets_can_be_loaded_again():
    """Masked ones could not: ten stars are no token, and no address."""
    content = {
        "data_root": "/d",
        "imaging": {"robust": 0.5},
        "calibration": {"request_webhook": "https://example.org/secret-address"},
        "alerts": {
            "heartbeat_url": "https://example.org/secret-address",
            "level": "info",
            "channels": [{"name": "pager", "url": "pagerduty://secret@secret"}],
        },
    }
    settings = config.validated(content, {"CONTIMG_API_TOKEN": "secret-token-of-32-characters-xx"})
    left = config.without_secrets(settings)
    assert not any(word in json.dumps(left) for word in ("secret-", "secret@", "***"))
    again = config.validated(left, {})
    assert (again.alerts.level, again.imaging.robust, again.service.token) == ("info", 0.5, None)
    assert config.secrets(again) == ()
    assert {*config.secrets(settings)} == {
        "calibration.request_webhook",
        "alerts.heartbeat_url",
        "alerts.channels",
        "service.token",
    }
