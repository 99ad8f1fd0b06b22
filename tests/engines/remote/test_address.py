"""Addresses of upstreams: what is refused whatever is allowed, and what an entry of ``upstream_hosts`` allows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.domain.errors import InvalidParameter
from appliance.engines.remote.address import check_base_url, read_allowed, read_url

ALLOWED = ["api.example.com", "127.0.0.1:8081", "http://10.0.0.5:8000", "[::1]:9000", "localhost", "gpu.lan:443"]


@pytest.mark.parametrize(
    ("given_url", "one_spelling"),
    [
        ("https://api.example.com/v1", "https://api.example.com/v1"),
        ("HTTPS://API.Example.COM:443/v1/", "https://api.example.com/v1"),
        ("https://api.example.com", "https://api.example.com/v1"),
        ("https://api.example.com:8443/openai/v1", "https://api.example.com:8443/openai/v1"),
        ("http://127.0.0.1:8081/v1", "http://127.0.0.1:8081/v1"),
        ("http://localhost:1234", "http://localhost:1234/v1"),
        ("http://10.0.0.5:8000/v1", "http://10.0.0.5:8000/v1"),
        ("http://[::1]:9000/v1", "http://[::1]:9000/v1"),
        ("https://gpu.lan", "https://gpu.lan/v1"),
    ],
)
def test_allowed(given_url: str, one_spelling: str) -> None:
    """An allowed address is kept in one spelling; without a path it is ``/v1``."""
    assert check_base_url(given_url, ALLOWED) == one_spelling


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("https://evil.example/v1", 'upstream_hosts = ["evil.example:443"]'),
        ("http://127.0.0.1:8000/v1", 'upstream_hosts = ["127.0.0.1:8000"]'),
        ("http://[::1]:9000/v1", 'upstream_hosts = ["[::1]:9000"]'),
        ("http://10.0.0.9:8000/v1", 'upstream_hosts = ["http://10.0.0.9:8000"]'),
    ],
)
def test_nothing_is_allowed_by_itself(url: str, line: str) -> None:
    """Without an entry every host is refused, loopback too; the message is the line that allows it."""
    with pytest.raises(InvalidParameter) as refused:
        check_base_url(url, [])

    assert line in refused.value.message
    assert check_base_url(url, [line.split('"')[1]]) == url.replace(":443", "")


def test_the_line_keeps_what_is_allowed() -> None:
    """The proposed line has the entries that are there, so that pasting it takes nothing away."""
    with pytest.raises(InvalidParameter, match=r'upstream_hosts = \["a.example", "b.example:443"\]'):
        check_base_url("https://b.example", ["a.example"])


@pytest.mark.parametrize("url", ["https://127.0.0.1:8082/v1", "https://gpu.lan:8443", "http://10.0.0.5:8001/v1"])
def test_a_port_is_part_of_the_entry(url: str) -> None:
    """An entry with a port allows that port alone."""
    with pytest.raises(InvalidParameter, match="not allowed"):
        check_base_url(url, ALLOWED)


@pytest.mark.parametrize("url", ["http://api.example.com/v1", "http://gpu.lan:443/v1"])
def test_plain_http(url: str) -> None:
    """Beyond loopback plain http needs an entry that says http."""
    with pytest.raises(InvalidParameter, match=r"in the clear.*http://"):
        check_base_url(url, ALLOWED)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com/v1",
        "//api.example.com/v1",
        "ftp://api.example.com/v1",
        "file:///etc/passwd",
        "unix:///run/socket",
        "https:///v1",
        "https://user@api.example.com/v1",
        "https://user:secret@api.example.com/v1",
        "https://evil.example#@api.example.com/v1",
        "https://api.example.com/v1?x=1",
        "https://api.example.com/v1?",
        "https://api.example.com/v1#part",
        "https://api.example.com\\@evil.example/v1",
        "https://api.example.com/v1\r\nhost: evil.example",
        "https://api.example.com /v1",
        "https://api.example.com/../v1",
        "https://api.example.com/./v1",
        "https://api.example.com//v1",
        "https://api.example.com/%2e%2e/v1",
        "https://api.example.com/v1;x",
        "https://api.example.com:0/v1",
        "https://api.example.com:65536/v1",
        "https://api.example.com:/v1",
        "https://api.example.com:8443x/v1",
        "https://api.example.com./v1",
        "https://аpi.example.com/v1",
        "https://127.1/v1",
        "https://2130706433/v1",
        "https://0x7f000001/v1",
        "https://127.0.0.0x1/v1",
        "https://[::1/v1",
        "https://[fe80::1%25eth0]/v1",
        "https://-api.example.com/v1",
        f"https://api.example.com/{'v' * 2000}",
    ],
)
def test_refused_whatever_is_allowed(url: str) -> None:
    """User and password, other schemes, queries, fragments, tricks with hosts, ports and paths."""
    with pytest.raises(InvalidParameter, match="base_url") as refused:
        read_url(url)
    assert "secret" not in refused.value.message


@pytest.mark.parametrize(
    "entry",
    ["", "*", "https://a.example/v1", "http://", "a.example:0", "user@a.example", "a b", "a.example:x", "?", "ftp://a"],
)
def test_wrong_entries(entry: str) -> None:
    """What is no host is named with the configuration's key."""
    with pytest.raises(InvalidParameter, match="upstream_hosts"):
        read_allowed(entry)


@given(st.text(max_size=60) | st.from_regex(r"https?://[a-z0-9.:@/\[\]%#?\\-]{0,40}"))
def test_a_url_that_is_read_reads_the_same_again(text: str) -> None:
    """Whatever is accepted has one spelling, and leads to the host that was checked."""
    try:
        endpoint = read_url(text)
    except InvalidParameter:
        return
    assert read_url(endpoint.url) == endpoint
    assert endpoint.host in text.lower() or ":" in endpoint.host
