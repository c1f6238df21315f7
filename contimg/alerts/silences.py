"""Silences: matchers on alert labels, as in Alertmanager; matching alerts are not sent until the silence ends."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contimg.core.errors import ConfigError
from contimg.ledger.rows import Silence

_MATCHER = re.compile(r'\s*([A-Za-z_]\w*)\s*(=~|!~|!=|=)\s*(?:"((?:[^"\\]|\\.)*)"|(.*?))\s*')
_LONGEST = 200
_QUANTIFIERS = 3
"""Largest number of quantifiers in a regular expression, which could run for hours with more."""


@dataclass(frozen=True)
class Matcher:
    """Condition on a label; an absent label counts as empty.

    Raises
    ------
    ConfigError
        If the regular expression is invalid or may take too long.
    """

    name: str
    value: str
    regex: bool = False
    equal: bool = True

    def __post_init__(self) -> None:
        if not self.regex:
            return
        bare = re.sub(r"\\.|\[[^\]]*\]", "x", self.value)
        if (
            len(self.value) > _LONGEST
            or len(re.findall(r"[*+{]", bare)) > _QUANTIFIERS
            or re.search(r"\)[*+{]", bare)
        ):
            raise ConfigError(f"matcher of {self.name}: the regular expression is too long or too deep; simplify it")
        try:
            re.compile(self.value)
        except re.error as error:
            raise ConfigError(f"matcher of {self.name}: not a regular expression ({error}); correct it") from error

    @classmethod
    def parse(cls, text: str) -> Matcher:
        """Matcher from text of the form name="value", with =, !=, =~ or !~.

        Raises
        ------
        ConfigError
            If the text has another form.
        """
        found = _MATCHER.fullmatch(text.strip().removeprefix("{").removesuffix("}"))
        if not found:
            raise ConfigError(f'filter {text!r}: is not of the form name="value"; correct it')
        name, sign, quoted, bare = found.groups()
        value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
        return cls(name, value, regex=sign in ("=~", "!~"), equal=sign in ("=", "=~"))

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Matcher:
        """Matcher from the JSON of Alertmanager's API."""
        return cls(
            content["name"], content["value"], bool(content.get("isRegex")), content.get("isEqual", True) is not False
        )

    def as_json(self) -> dict[str, Any]:
        """Matcher as JSON of Alertmanager's API."""
        return {"name": self.name, "value": self.value, "isRegex": self.regex, "isEqual": self.equal}

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether labels meet the condition."""
        has = labels.get(self.name, "")
        same = bool(re.fullmatch(self.value, has)) if self.regex else has == self.value
        return same is self.equal


def labels(condition: str, subject: str, severity: str) -> dict[str, str]:
    """Labels of an alert, with the name of the Prometheus rule on the same condition."""
    name = "".join(word.capitalize() for word in condition.split("_"))
    found = {"alertname": name, "severity": severity, "condition": condition}
    return found | ({"subject": subject} if subject else {})


def all_match(matchers: Iterable[Matcher], alert: Mapping[str, str]) -> bool:
    """Whether labels meet all matchers."""
    return all(matcher.matches(alert) for matcher in matchers)


def active_silences(silences: Sequence[Silence], alert: Mapping[str, str], now: float) -> list[str]:
    """Ids of the silences in force for an alert's labels."""
    return [
        silence.id
        for silence in silences
        if silence.starts <= now < silence.ends and all_match(map(Matcher.from_json, silence.matchers), alert)
    ]
