"""Guards: token, limits, headers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from urllib.parse import urlparse

import pytest
import requests
from http_service import Served, served

from contimg.service.security import MOST_BYTES, RateLimit


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("guarded") / "root") as made:
        yield made


def test_browsers_run_no_script_of_others(service: Served) -> None:
    headers = service.get("/livez").headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in headers


def test_a_body_that_is_too_large_is_refused_however_it_comes(service: Served) -> None:
    assert service.post("/livez", "x" * MOST_BYTES).status_code == 413
    where = urlparse(service.url)
    with socket.create_connection((where.hostname, where.port), 10) as connection:
        connection.sendall(b"POST /livez HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n")
        assert connection.recv(100).split()[1] in (b"400", b"413")


@pytest.mark.parametrize("path", ["/", "/livez", "/metrics", "/static/app.js", "/events?page=now", "/group/x"])
def test_head_is_get_without_its_body(service: Served, path: str) -> None:
    with requests.Session() as session:  # one connection: the second answer follows on the first
        head, get = (
            session.request(method, service.url + path, stream=True, timeout=20) for method in ("HEAD", "GET")
        )
        assert head.status_code == get.status_code
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.content == b""
        get.close()


def test_an_address_is_slowed_down_and_no_other() -> None:
    limit = RateLimit(0.001, 3)
    assert [limit.allows("a") for _ in range(4)] == [True, True, True, False]
    assert limit.allows("b")


def test_paths_do_not_leave_what_is_served(service: Served) -> None:
    where = urlparse(service.url)
    for path in ("/static/../../../../etc/passwd", "/static/%2e%2e/%2e%2e/application.py", "//etc/passwd"):
        with socket.create_connection((where.hostname, where.port), 10) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            assert connection.recv(100).split()[1] == b"404", path
