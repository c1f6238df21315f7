"""Channels of alerts: Slack, e-mail, PagerDuty, webhooks, and the other services of the apprise library."""

from __future__ import annotations

import hashlib
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from contimg.alerts.conditions import RANKS
from contimg.core.errors import ConfigError
from contimg.core.sections import Alerts, Severity

_INCIDENT = ("dedup", "alias", "entity_id")
"""Names under which apprise takes an incident's key for the services that keep incidents."""


@dataclass(frozen=True)
class Target:
    """Channel for alerts.

    Attributes
    ----------
    url
        Address in apprise's form; a secret.
    """

    name: str
    url: str
    min_severity: Severity

    def wants(self, severity: Severity) -> bool:
        """Whether the channel takes messages of a severity."""
        return RANKS[severity] >= RANKS[self.min_severity]


@dataclass(frozen=True)
class Message:
    """Message to a channel.

    Attributes
    ----------
    incident
        Key of its alert (data root, condition and subject), the same from opening to resolution.
    resolved
        Whether the message reports the end of its alert.
    """

    id: int
    severity: Severity
    title: str
    body: str
    incident: str = ""
    resolved: bool = False


def targets(settings: Alerts) -> list[Target]:
    """Channels of the settings; none takes a severity below `level`."""
    found: list[tuple[str, str, Severity]] = [
        (channel.name, channel.url.get_secret_value(), channel.min_severity) for channel in settings.channels
    ]
    if settings.slack_webhook_url:
        found.append(("slack", _plain(settings.slack_webhook_url.get_secret_value()), settings.level))
    if settings.webhook:
        found.append(("webhook", _plain(settings.webhook.get_secret_value()), settings.level))
    if settings.critical_email:
        server = settings.mail_server.get_secret_value() if settings.mail_server else "mailto://localhost:25"
        mark = "&" if "?" in server else "?"
        sender = "" if "from=" in server else f"&from=contimg@{socket.getfqdn()}"
        found.append(("e-mail", f"{server}{mark}to={settings.critical_email}{sender}", "critical"))
    return [Target(name, url, max(severity, settings.level, key=RANKS.__getitem__)) for name, url, severity in found]


def _plain(url: str) -> str:
    """Web address as apprise's JSON channel, unless apprise knows the host.

    apprise passes on only parameters that are marked with a hyphen, and removes the quoting twice.
    """
    if url.startswith("https://hooks.slack.com/") or not url.startswith(("https://", "http://")):
        return url
    address, _, query = url.partition("?")
    parameters = [
        f"-{quote(quote(name, safe=''), safe='')}={quote(quote(value, safe=''), safe='')}"
        for name, value in parse_qsl(query, keep_blank_values=True)
    ]
    return "?".join(["json" + address.removeprefix("http"), *(["&".join(parameters)] if parameters else [])])


def check(channels: Iterable[Target]) -> None:
    """Refuse addresses that apprise cannot send to.

    Raises
    ------
    ConfigError
        For an unusable address; the text names the channel, not the secret address.
    """
    for channel in channels:
        import apprise  # noqa: PLC0415 — takes a while, and is only needed where there are channels

        if apprise.Apprise.instantiate(channel.url) is None:
            raise ConfigError(
                f"alerts: the address of channel {channel.name} is not known to apprise; correct it in the settings"
            )


def send(channel: Target, messages: Iterable[Message], timeout_s: float) -> dict[int, str]:
    """Send messages one after the other; returns each message's error by its id, empty on success.

    Sending takes up to `timeout_s` (and a little) per message: call it in a separate process.
    """
    import apprise  # noqa: PLC0415

    kinds = {
        "info": apprise.NotifyType.INFO,
        "warning": apprise.NotifyType.WARNING,
        "critical": apprise.NotifyType.FAILURE,
    }
    results = {}
    with apprise.LogCapture(level=apprise.logging.WARNING) as said:
        for message in messages:
            sender = apprise.Apprise()
            sender.add(_address(channel.url, message, timeout_s))
            said.truncate(0)
            said.seek(0)
            kind = apprise.NotifyType.SUCCESS if message.resolved else kinds[message.severity]
            sent = sender.notify(title=message.title, body=message.body, notify_type=kind)
            results[message.id] = "" if sent else _without_secrets(said.getvalue(), channel) or "it was not taken"
    return results


def _address(url: str, message: Message, timeout_s: float) -> str:
    """Address for one message, with time limits and, for a pager, the incident from opening to resolution."""
    import apprise  # noqa: PLC0415

    options = {"cto": f"{timeout_s / 2:g}", "rto": f"{timeout_s / 2:g}"}
    takes = getattr(apprise.Apprise.instantiate(url), "template_args", {})
    incident = next((name for name in _INCIDENT if name in takes), None)
    if incident and "map" in takes.get("action", {}).get("values", ()):
        key = hashlib.blake2b((message.incident or message.title).encode(), digest_size=16).hexdigest()
        options |= {"action": "map", incident: key}
    query = "&".join(f"{name}={value}" for name, value in options.items())
    return f"{url}{'&' if '?' in url else '?'}{query}"


def _without_secrets(text: str, channel: Target) -> str:
    """Error text of apprise in one line, without the channel's address."""
    line = " ".join(part.strip() for part in text.splitlines() if part.strip())[:300]
    for part in re.split("[/@:?&=]", channel.url.split("//", 1)[-1]):
        if len(part) > 6:
            line = line.replace(part, "…")
    return line
