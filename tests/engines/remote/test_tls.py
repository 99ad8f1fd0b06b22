"""HTTPS to an upstream: a certificate that the machine trusts, and one that it does not."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from appliance.domain.errors import NotReady
from tests.engines.remote.conftest import Load
from tests.support.fake_upstream import FakeUpstream

DAY = timedelta(days=1)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A site's own authority and the upstream's certificate in one, with its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "cluster.pem"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM) + private)
    return path


@pytest.fixture
def secured(upstream: FakeUpstream, certificate: Path) -> Iterator[str]:
    """The upstream behind TLS; its base URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    plain = upstream.socket
    upstream.socket = context.wrap_socket(plain, server_side=True)
    yield f"https://{upstream.host}/v1"
    upstream.socket.close()


async def test_trusted(load: Load, secured: str, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site's own authority in the machine's trust store is enough."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    engine = await load(base_url=secured)
    assert engine.failure is None


async def test_not_trusted(load: Load, secured: str) -> None:
    """Anybody else's certificate ends the connection before the key is sent."""
    with pytest.raises(NotReady, match="certificate"):
        await load(base_url=secured)


async def test_plain_http_where_tls_is_spoken(load: Load, secured: str) -> None:
    """The wrong scheme is said as an upstream that cannot be reached, not as a fault of ours."""
    with pytest.raises(NotReady, match="'cluster'"):
        await load(base_url=secured.replace("https", "http"))
