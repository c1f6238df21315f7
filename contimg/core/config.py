"""Settings: YAML (or Snakemake's `config`) plus `CONTIMG_*` environment variables, validated on load.

`config/config.yaml` documents every key; `config/config.schema.json` is generated from the model for editors.
Unknown keys, wrong types and impossible values are errors that name the key's path.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, Field, SecretStr, ValidationError, model_validator

from contimg.core import files
from contimg.core.errors import ConfigError
from contimg.core.sections import (
    AbsolutePath,
    Alerts,
    Archive,
    Backup,
    Beam,
    Cache,
    Calibration,
    Flag,
    Imaging,
    Ingest,
    Limits,
    Logging,
    Mosaic,
    Quality,
    Retention,
    Retry,
    Runner,
    Section,
    Service,
    SkyCatalogue,
    Staging,
)

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    Part = TypeVar("Part", bound=DataclassInstance)

ENVIRONMENT_PREFIX = "CONTIMG_"
_CREDENTIAL = "secret_"
"""Beginning of the names under which systemd passes on the files of the units' folder of secrets."""
_PLAIN = {
    "extra_forbidden": "no such setting",
    "invalid_key": "no such setting",
    "missing": "is not given",
    "model_type": "is a section; write lines of KEY: VALUE below it",
    "path_type": "is no path",
}
"""Words for types of pydantic's errors that speak of Python's classes, or too little."""
_RETIRED = {("runner", "lease_seconds"): "the lease is a lock of the operating system, which ends with its runner"}
"""Keys that older files may have, each with why nothing depends on it any more."""
_LOG = logging.getLogger(__name__)


def _group(name: str) -> str:
    """Check that a name is a group's: the UTC second in which its data start."""
    try:
        if re.fullmatch(r"\d{8}T\d{6}", name):
            datetime.strptime(name, "%Y%m%dT%H%M%S")
            return name
    except ValueError:
        pass
    raise ValueError(f"{name!r} is no group's name, which looks like 20260112T084512")


GroupName = Annotated[str, AfterValidator(_group)]


class Settings(Section):
    """All settings. Only `data_root` has no default."""

    data_root: AbsolutePath = Field(json_schema_extra={"env": "DATA_ROOT"})
    groups: tuple[GroupName, ...] = ()
    """Work on these groups only (default: all that incoming/ and groups/ hold)."""
    scan_incoming: bool = True
    """False: the named groups are taken as their manifests have them. The runner, which has scanned, says so."""
    ingest: Ingest = Ingest()
    staging: Staging = Staging()
    flag: Flag = Flag()
    calibration: Calibration = Calibration()
    beam: Beam = Beam()
    imaging: Imaging = Imaging()
    sky_catalogue: SkyCatalogue = SkyCatalogue()
    quality: Quality = Quality()
    mosaic: Mosaic = Mosaic()
    cache: Cache = Cache()
    limits: Limits = Limits()
    retention: Retention = Retention()
    archive: Archive = Archive()
    backup: Backup = Backup()
    runner: Runner = Runner()
    retry: Retry = Retry()
    alerts: Alerts = Alerts()
    service: Service = Service()
    logging: Logging = Logging()

    def part(self, kind: type[Part]) -> Part:
        """Settings for one purpose, as a dataclass whose fields have the names of sections."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})

    @model_validator(mode="after")
    def _safe_to_delete(self) -> Settings:
        """Refuse settings under which looking after the disks would lose data."""
        root = Path(os.path.realpath(self.data_root))
        for section in ("archive", "backup"):
            destination = getattr(self, section).destination
            if destination and destination.startswith("/"):
                folder = Path(os.path.realpath(destination))
                if folder.is_relative_to(root) or root.is_relative_to(folder):
                    raise ValueError(f"{section}.destination: must be outside the data root, and not hold it")
        longest_wait_h = max(self.mosaic.window_minutes / 60, self.calibration.nearest_within_hours)
        for key in ("ms_days", "image_days"):
            if getattr(self.retention, key) * 24 < longest_wait_h:
                limits = "mosaic.window_minutes and calibration.nearest_within_hours"
                raise ValueError(f"retention.{key}: must not be shorter than {limits}")
        return self


def environment_names() -> dict[str, tuple[str, ...]]:
    """Every environment variable that is a setting, with the key's path."""
    names: dict[str, tuple[str, ...]] = {}

    def collect(model: type[BaseModel], path: tuple[str, ...]) -> None:
        for key, field in model.model_fields.items():
            extra = field.json_schema_extra
            if isinstance(extra, dict) and "env" in extra:
                names[f"{ENVIRONMENT_PREFIX}{extra['env']}"] = (*path, key)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                collect(field.annotation, (*path, key))

    collect(Settings, ())
    return names


def variables() -> dict[str, str]:
    """Variables of this process, and secrets that systemd passed to its unit as files (`LoadCredential=`).

    Raises
    ------
    ConfigError
        If a secret cannot be read.
    """
    found: dict[str, str] = {}
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    for path in sorted(Path(folder).glob(f"{_CREDENTIAL}{ENVIRONMENT_PREFIX}*")) if folder else ():
        try:
            found[path.name.removeprefix(_CREDENTIAL)] = path.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path.name}: the secret cannot be read ({error}); write it as one line") from error
    return {**found, **os.environ}


def _with_environment(content: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    merged = {key: dict(value) if isinstance(value, Mapping) else value for key, value in content.items()}
    known = environment_names()
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX):
            continue
        if name not in known:
            raise ConfigError(f"{name}: no such setting; the environment may set {', '.join(sorted(known))}")
        *sections, key = known[name]
        target = merged
        for section in sections:
            if target.get(section) is None:
                target[section] = {}
            target = target[section]
            if not isinstance(target, dict):
                raise ConfigError(f"{'.'.join(sections)}: holds no settings; write them below it, or leave it out")
        target[key] = value
    return merged


def validated(content: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Settings:
    """Turn a mapping into settings; environment variables win over it.

    Raises
    ------
    ConfigError
        One line for each bad key, with the key's path.
    """
    merged = _with_environment(content, variables() if environment is None else environment)
    for (section, key), why in _RETIRED.items():
        if isinstance(merged.get(section), dict) and merged[section].pop(key, None) is not None:
            _LOG.warning("%s.%s: has no effect any more: %s", section, key, why)
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            where = ".".join(str(step) for step in problem["loc"])
            what = _PLAIN.get(problem["type"], problem["msg"]).removeprefix("Value error, ")
            lines.append(f"{where}: {what}" if where else what)
        raise ConfigError(f"{'; '.join(lines)}; correct the settings") from None


def load(path: Path, environment: Mapping[str, str] | None = None, **overrides: Any) -> Settings:
    """Read settings from a YAML file; `overrides` replace top-level keys, environment variables win over the file.

    Raises
    ------
    ConfigError
        If the file cannot be read as YAML or a setting is bad.
    """
    return validated({**read_file(path), **overrides}, environment)


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is there twice is an error; the first would be ignored without a word."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Compose a mapping, and check its keys."""
        node = super().compose_mapping_node(anchor)
        keys: set[str] = set()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in keys:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is there twice", problem_mark=key.start_mark)
            keys.add(key.value)
        return node


def read_file(path: Path) -> dict[str, Any]:
    """Content of a settings file, not validated.

    Raises
    ------
    ConfigError
        If the file cannot be read as YAML, or holds no mapping.
    """
    try:
        text = files.read_bytes(path).decode()
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigError(f"{path}: line {line}: is no UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); name the settings file with --config"
        ) from error
    try:
        content = yaml.load(text, _Loader) or {}  # noqa: S506 — a safe loader
    except RecursionError as error:
        raise ConfigError(f"{path}: is nested too deeply; correct it") from error
    except yaml.reader.ReaderError as error:
        raise ConfigError(f"{path}: {_line(text, error.position)}{error.reason}; correct it") from error
    except yaml.MarkedYAMLError as error:
        where = _line(text, error.problem_mark.index) if error.problem_mark else ""
        raise ConfigError(f"{path}: {where}{error.problem}; correct it") from error
    except ValueError as error:  # a date that no calendar has
        raise ConfigError(f"{path}: holds a value that makes no sense ({error}); correct it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: holds no mapping of settings; write lines of KEY: VALUE")
    return content


def _line(text: str, position: int) -> str:
    """Line of a position in a text, as a message begins with it."""
    return f"line {text.count(chr(10), 0, position) + 1}: "


def flat(settings: BaseModel, prefix: str = "") -> dict[str, Any]:
    """Every setting by its dotted key; secrets stay wrapped, so that printing one masks it."""
    found: dict[str, Any] = {}
    for key in type(settings).model_fields:
        value = getattr(settings, key)
        if isinstance(value, BaseModel):
            found |= flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def secrets(settings: BaseModel) -> tuple[str, ...]:
    """Dotted keys of the settings that hold secrets; for secrets in the entries of a list, the key of the list."""
    return tuple(
        key
        for key, value in flat(settings).items()
        if isinstance(value, SecretStr)
        or (isinstance(value, tuple) and any(isinstance(part, BaseModel) and secrets(part) for part in value))
    )


def without_secrets(settings: Settings) -> dict[str, Any]:
    """Settings as JSON values that can be loaded again; secrets are unset, not masked."""
    content = settings.model_dump(mode="json")
    for key in secrets(settings):
        *sections, last = key.split(".")
        part = content
        for section in sections:
            part = part[section]
        part[last] = [] if isinstance(part[last], list) else None
    return content


def differences(old: Settings, new: Settings) -> dict[str, tuple[Any, Any]]:
    """Settings that differ, by their dotted keys."""
    before, after = flat(old), flat(new)
    return {key: (before[key], after[key]) for key in before if before[key] != after[key]}


def sources(content: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, str]:
    """Origin of each setting that is not a default, by its dotted key: `file`, or a variable's name."""
    found: dict[str, str] = {}

    def collect(part: Mapping[str, Any], prefix: str) -> None:
        for key, value in part.items():
            found[f"{prefix}{key}"] = "file"
            if isinstance(value, Mapping):
                collect(value, f"{prefix}{key}.")

    collect(content, "")
    for name, path in environment_names().items():
        if name in environment:
            found[".".join(path)] = name
    return found
