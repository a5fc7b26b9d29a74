"""The URIs of Redis."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shoal.stores.redis_address import PORTS, parse_address

NAMES = st.from_regex(r"[a-z][a-z0-9-]{0,20}(\.[a-z]{2,5})?", fullmatch=True)
HOSTS = st.lists(st.tuples(NAMES, st.integers(1, 65535)), min_size=1, max_size=5)
PASSWORDS = st.text(st.sampled_from("abc:/@?#%&=+ é"), min_size=1, max_size=12)


def quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


@given(st.sampled_from(["single", "cluster", "sentinel"]), st.booleans(), HOSTS, PASSWORDS)
def test_a_uri_is_read_as_it_was_written(kind, tls, hosts, password):
    hosts = hosts[:1] if kind == "single" else hosts
    suffix = "" if kind == "single" else f"+{kind}"
    query = "db=0" + ("&service=main" if kind == "sentinel" else "")
    query += "&ssl_ca_certs=/ca.pem" if tls else ""
    places = ",".join(f"{host}:{port}" for host, port in hosts)
    uri = f"redis{'s' if tls else ''}{suffix}://:{quoted(password)}@{places}?{query}"
    found = parse_address(uri)
    assert (found.kind, list(found.hosts)) == (kind, hosts)
    assert found.options["password"] == password
    assert found.options.get("ssl", False) == tls
    assert found.options.get("ssl_ca_certs") == ("/ca.pem" if tls else None)
    assert found.service == ("main" if kind == "sentinel" else "")
    assert password not in repr(found) or len(password) < 3


@pytest.mark.parametrize("kind", PORTS)
def test_the_port_may_be_left_out(kind: str):
    suffix = "" if kind == "single" else f"+{kind}"
    found = parse_address(f"redis{suffix}://h/0?{'service=m' if kind == 'sentinel' else ''}")
    assert found.hosts == (("h", PORTS[kind]),)


def test_the_path_of_a_socket_is_read():
    found = parse_address("unix://:pw@/run/redis.sock?db=2")
    assert found.options == {"password": "pw", "path": "/run/redis.sock", "db": 2}
    assert found.hosts == ()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("mysql://h", "begins with one of"),
        ("redis://a:1,b:2", "several hosts"),
        ("redis+sentinel://a", "service=mymaster"),
        ("redis://h?sslca=/x", "unknown parameter 'sslca'"),
        ("redis://h?ssl_ca_certs=/x", "need rediss"),
        ("redis://h:port", "not a host with a port"),
        ("redis+cluster://h:1,h:99999", "not a host with a port"),
        ("redis+cluster://" + ",".join(["h"] * 101), "more than 100"),
        ("redis://h?db=x", "Invalid value for 'db'"),
    ],
)
def test_a_wrong_uri_is_refused(uri: str, said: str):
    with pytest.raises(ValueError, match="".join(said)) as error:
        parse_address(uri.replace("://", "://:hunter2secret@"))
    assert "hunter2secret" not in str(error.value)
