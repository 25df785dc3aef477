"""Where webhooks may go. The cases are the union of smokescreen's, Svix's and our own."""

import ipaddress

import pytest

from domain.outbound import RefusedUrl, parse_url, refuse_address

FORBIDDEN = [
    # IPv4: this network, private, shared, loopback, link-local, protocol assignments, documentation, 6to4 relays, benchmarks, multicast, reserved
    *("0.0.0.0", "0.1.2.3", "10.0.0.0", "10.0.0.1", "10.255.255.255", "100.64.0.0", "100.64.0.1", "100.100.100.200", "100.127.255.255"),
    *("127.0.0.0", "127.0.0.1", "127.1.2.3", "127.255.255.255", "169.254.0.0", "169.254.169.254", "169.254.255.255"),
    *("172.16.0.0", "172.16.0.1", "172.31.255.255", "192.0.0.0", "192.0.0.170", "192.0.0.255", "192.0.2.1", "192.88.99.1"),
    *("192.168.0.0", "192.168.0.1", "192.168.255.255", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1"),
    *("224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    # IPv6: unspecified, loopback, IPv4 inside (compatible, mapped), NAT64, discard, Teredo, documentation, 6to4, segment routing, unique local,
    # metadata, link-local, site-local, multicast
    *("::", "::1", "::2", "::7f00:1", "::10.0.0.1", "::8.8.8.8", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:0"),
    *("64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b::8.8.8.8", "64:ff9b::", "64:ff9b:1::", "64:ff9b:1::8.8.8.8", "64:ff9b:1:ffff::1"),
    *("100::", "100::1", "2001::", "2001::1", "2001:0:4136:e378:8000:63bf:3fff:fdd2", "2001:10::1", "2001:20::1", "2001:1ff::1", "2001:db8::", "2001:db8::1"),
    *("2002::", "2002:7f00:1::", "2002:808:808::", "2002:a00:1::1", "3fff::1", "5f00::1"),
    *("fc00::", "fc00::1", "fd00::1", "fd00:ec2::254", "fdff:ffff::1", "fe80::", "fe80::1", "febf::1", "fec0::1", "feff::1", "ff00::1", "ff02::1"),
]
ALLOWED = [
    *("8.8.8.8", "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.254", "100.63.255.255", "100.128.0.1", "126.255.255.255", "128.0.0.1"),
    *("169.253.255.255", "169.255.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1", "192.0.3.1", "192.167.255.255", "192.169.0.1"),
    *("198.17.255.255", "198.20.0.1", "198.51.99.1", "198.51.101.1", "203.0.112.1", "203.0.114.1", "223.255.255.254"),
    *("2001:4860:4860::8888", "2606:4700:4700::1111", "2001:200::1", "2a00::1", "2003::1", "2600::1", "::ffff:8.8.8.8", "64:ff9c::1"),
]


@pytest.mark.parametrize("text", FORBIDDEN)
def test_address_that_is_not_public_is_refused(text: str) -> None:
    assert refuse_address(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", ALLOWED)
def test_address_just_outside_is_let_through(text: str) -> None:
    assert refuse_address(ipaddress.ip_address(text)) is None


def test_address_with_a_zone_is_refused() -> None:
    assert refuse_address(ipaddress.ip_address("2606:4700::1%eth0"))


@pytest.mark.parametrize("text", ["127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "100.64.0.1", "::1", "fd00::1", "::ffff:127.0.0.1"])
def test_private_address_in_development_is_let_through(text: str) -> None:
    assert refuse_address(ipaddress.ip_address(text), allow_private=True) is None


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254", "100.100.100.200", "0.0.0.0", "::", "224.0.0.1", "fe80::1", "64:ff9b::7f00:1"]
)
def test_metadata_and_reserved_address_in_development_too_is_refused(text: str) -> None:
    assert refuse_address(ipaddress.ip_address(text), allow_private=True)


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("https://example.com", "https://example.com/"),
        ("HTTPS://Example.COM/Path?Query=A", "https://example.com/Path?Query=A"),
        ("https://example.com.", "https://example.com/"),
        ("https://example.com:443/x", "https://example.com/x"),
        ("https://example.com:8443/x", "https://example.com:8443/x"),
        ("https://example.com?x=1", "https://example.com/?x=1"),
        ("https://example.com/a#fragment", "https://example.com/a"),
        ("https://bücher.example/ü", "https://xn--bcher-kva.example/%C3%BC"),
        ("https://8.8.8.8./", "https://8.8.8.8/"),
        ("https://[2606:4700:4700::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"),
        ("https://[2606:4700:4700:0:0:0:0:1111]/", "https://[2606:4700:4700::1111]/"),
        ("https://example.com/a%20b%2F", "https://example.com/a%20b%2F"),
        ("https://my_hooks.example.com/", "https://my_hooks.example.com/"),
        ("https://example.com/@user", "https://example.com/@user"),
    ],
)
def test_url_that_is_good_has_one_form(text: str, whole: str) -> None:
    target = parse_url(text)
    assert target.url == whole
    assert parse_url(target.url) == target


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *(
            (text, "invalid_url")
            for text in ("", "example.com", "https:", "https://", "https:///x", "https:/example.com", "//example.com", "https://?x", "https://#x")
        ),
        *((f"https://exam{bad}ple.com/", "invalid_url") for bad in (" ", "\t", "\n", "\r", "\0", "\x7f", "\\", "\xa0", "\u2028", "<", "%00", "%2e", ",")),
        *(
            (f"https://{bad}/", "invalid_url")
            for bad in ("a..b", ".a", "-a.com", "a-.com", "a" * 64 + ".com", "a." * 127 + "com", "user@a.com", "u:p@a.com", "@a.com")
        ),
        ("https://example.com\\@evil.com/", "invalid_url"),
        ("https://example.com/\x00", "invalid_url"),
        ("https://example.com/\ud800", "invalid_url"),
        ("https://example.com/" + "x" * 2_048, "invalid_url"),
        *((f"https://example.com:{port}/", "invalid_url") for port in ("", "0", "65536", "99999", "-1", "4 43", "443x", "٤٤٣", "0x1bb")),
        *((f"https://example.com:{port}/", "url_port") for port in ("22", "80", "25", "6379", "8080", "65535")),
        *((f"{scheme}://example.com/", "url_scheme") for scheme in ("http", "ftp", "file", "gopher", "ws", "javascript", "unix")),
        # other ways of writing 127.0.0.1 and the like: decimal, hexadecimal, octal, short
        *(
            (f"https://{host}/", "invalid_url")
            for host in ("2130706433", "0x7f000001", "0x7f.0.0.1", "0x7F.1", "0177.0.0.1", "017700000001", "127.1", "127.0.1")
        ),
        *(
            (f"https://{host}/", "invalid_url")
            for host in ("0", "00.0.0.0", "127.0.0.01", "127.0.0.1.1", "256.0.0.1", "127.0.0.0x1", "example.0x7f", "example.1", "1.2.3.999")
        ),
        *((f"https://{host}/", "url_forbidden") for host in ("127.0.0.1", "127.0.0.1.", "10.0.0.1", "169.254.169.254", "0.0.0.0", "100.100.100.200")),
        *((f"https://{host}/", "url_forbidden") for host in ("１２７.０.０.１", "127。0。0。1", "①②⑦.⓪.⓪.①", "127．0．0．1")),
        *(
            (f"https://{host}/", "url_forbidden")
            for host in ("localhost", "LOCALHOST", "localhost.", "a.localhost", "ｌｏｃａｌｈｏｓｔ", "metadata.google.internal", "metadata.google.internal.")
        ),
        *(
            (f"https://[{host}]/", "url_forbidden")
            for host in ("::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:0:0:1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001::1", "fd00::1")
        ),
        *((f"https://[{host}]/", "invalid_url") for host in ("fe80::1%eth0", "fe80::1%25eth0", "::1%1", "1", "127.0.0.1", "::g", ":::1", "::ffff:127.1")),
        *((f"https://{host}/", "invalid_url") for host in ("[::1", "::1", "[::1]x", "[[::1]]", "[v1.a]", "[]")),
    ],
)
def test_url_with_two_readings_or_a_bad_end_is_refused(text: str, code: str) -> None:
    with pytest.raises(RefusedUrl) as refused:
        parse_url(text)
    assert refused.value.code == code, refused.value


@pytest.mark.parametrize("text", ["http://127.0.0.1:3000/hook", "http://localhost:3000/", "https://10.0.0.1/", "http://[::1]:8080/", "http://receiver:80/"])
def test_url_of_this_machine_in_development_is_good(text: str) -> None:
    assert parse_url(text, allow_private=True).url.startswith(text.removesuffix(":80/"))


@pytest.mark.parametrize(
    "text", ["http://169.254.169.254/latest/meta-data/", "http://metadata.google.internal/", "http://0.0.0.0/", "http://2130706433/", "ftp://127.0.0.1/"]
)
def test_url_of_metadata_in_development_too_is_refused(text: str) -> None:
    with pytest.raises(RefusedUrl):
        parse_url(text, allow_private=True)


def test_origin_is_scheme_host_and_port() -> None:
    assert parse_url("https://Example.com/a?b").origin == "https://example.com"
    assert parse_url("https://example.com:8443/a").origin == "https://example.com:8443"
    assert parse_url("http://[::1]:80/a", allow_private=True).netloc == "[::1]"
