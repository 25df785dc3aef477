"""Where requests of ours may go: URLs that tenants give are parsed once, here, and every address they lead to is judged, here.

The parser takes less than browsers do: whatever has two readings is refused, so that nobody else's reading of it matters.
"""

import ipaddress
import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

Address = IPv4Address | IPv6Address

MAX_URL_CHARS = 2_048
PORTS = frozenset({443, 8443})
_DEFAULT_PORT = {"https": 443, "http": 80}

_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^#]*)(?:#.*)?", re.DOTALL)
_PORT = re.compile(r"[0-9]{1,5}")
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DOTTED_QUAD = re.compile(r"(?:(?:0|[1-9][0-9]{0,2})\.){3}(?:0|[1-9][0-9]{0,2})")
_PATH_SAFE = "!$%&'()*+,-./:;=?@_~[]"

_NEVER_NAMES = ("metadata", "metadata.google.internal", "instance-data")  # instances' metadata by name

# RELIABILITY §6.2. `is_global` alone is wrong for us: it lets through what is translated or tunnelled to anywhere (NAT64, 6to4, Teredo).
_NEVER = tuple(
    ipaddress.ip_network(net)
    for net in (
        *("0.0.0.0/8", "169.254.0.0/16", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24"),
        *("224.0.0.0/4", "240.0.0.0/4", "100.100.100.200/32"),  # the last: metadata of one provider
        *("64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16"),
        *("fe80::/10", "fec0::/10", "ff00::/8", "fd00:ec2::254/128"),  # the last: metadata of another
    )
)
_PRIVATE = tuple(ipaddress.ip_network(net) for net in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7"))
_IPV4_COMPATIBLE = ipaddress.IPv6Network("::/96")


class RefusedUrl(ValueError):
    """No request goes to this URL.

    Attributes:
        code: ``invalid_url``, ``url_scheme``, ``url_port`` or ``url_forbidden``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Target:
    """A URL that was understood.

    Attributes:
        scheme: ``https``, or ``http``.
        host: in lower case and ASCII, without brackets and without a dot at the end.
        port: always given.
        path: path and query, as they are sent; begins with a slash.
        address: what the host is, where it is no name.
    """

    scheme: str
    host: str
    port: int
    path: str
    address: Address | None = None

    @property
    def netloc(self) -> str:
        """Host and port, as the ``Host`` header has them: the scheme's own port is left out."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == _DEFAULT_PORT[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """Scheme, host and port: ``https://example.com``."""
        return f"{self.scheme}://{self.netloc}"

    @property
    def url(self) -> str:
        """The whole, in the form that is used and stored."""
        return f"{self.origin}{self.path}"


def parse_url(text: str, *, allow_private: bool = False) -> Target:
    """Reads a URL to which requests shall go.

    Args:
        text: what a tenant gave.
        allow_private: whether ``http``, any port and addresses of private networks will do; for development.

    Raises:
        RefusedUrl: with the code and what is wrong.
    """
    if not 1 <= len(text) <= MAX_URL_CHARS:
        raise RefusedUrl("invalid_url", f"must have 1 to {MAX_URL_CHARS} characters")
    if any(char <= " " or char == "\\" or "\x7f" <= char <= "\xa0" or char.isspace() for char in text):
        raise RefusedUrl("invalid_url", "must hold no white space, control character or backslash")
    found = _URL.fullmatch(text)
    if found is None:
        raise RefusedUrl("invalid_url", "must be an absolute URL: https://host/path")
    scheme = found[1].lower()
    if scheme not in ({"https", "http"} if allow_private else {"https"}):
        raise RefusedUrl("url_scheme", "must begin with https://")
    host, port = _authority(found[2], scheme)
    address = _literal(host)
    if address is None:
        host = _name(host)
        address = _literal(host)  # full-width digits and the like become ASCII ones there
    if address is not None:
        host = str(address)
    if port not in PORTS and not allow_private:
        raise RefusedUrl("url_port", f"must use port {' or '.join(str(port) for port in sorted(PORTS))}")
    why = _refuse_name(host, allow_private=allow_private) if address is None else refuse_address(address, allow_private=allow_private)
    if why is not None:
        raise RefusedUrl("url_forbidden", f"must lead to a public address: {host} is {why}")
    try:
        path = quote(found[3], safe=_PATH_SAFE)
    except UnicodeEncodeError as error:
        raise RefusedUrl("invalid_url", "must hold no lone surrogate") from error
    return Target(scheme, host, port, path if path.startswith("/") else f"/{path}", address)


def refuse_address(address: Address, *, allow_private: bool = False) -> str | None:
    """Why no connection may be made to an address; None where one may.

    Args:
        address: as the resolver gave it. IPv4 inside IPv6 is judged as IPv4.
        allow_private: whether loopback and private networks will do. What is link-local, reserved, multicast or some cloud's metadata never does.
    """
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return "an address with a zone"
        if address.ipv4_mapped is not None:
            return refuse_address(address.ipv4_mapped, allow_private=allow_private)
    if any(address in network for network in _NEVER):
        return "link-local, reserved or a metadata service"
    if any(address in network for network in _PRIVATE):
        return None if allow_private else "private"
    if address in _IPV4_COMPATIBLE or address.is_multicast or not address.is_global:
        return "not public"
    return None


def _authority(text: str, scheme: str) -> tuple[str, int]:
    if "@" in text:
        raise RefusedUrl("invalid_url", "must hold no user or password")
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")) or ":" not in host:
            raise RefusedUrl("invalid_url", "its host is no IPv6 address")
        host, port = f"[{host}]", rest[1:] if rest else None
    else:
        host, colon, after = text.partition(":")
        port = after if colon else None
    if not host:
        raise RefusedUrl("invalid_url", "must have a host")
    if port is None:
        return host, _DEFAULT_PORT[scheme]
    if _PORT.fullmatch(port) is None or not 1 <= int(port) <= 65_535:
        raise RefusedUrl("invalid_url", "its port is no number from 1 to 65535")
    return host, int(port)


def _literal(host: str) -> Address | None:
    """The address that a host is. An IPv4 address has one form, four decimal numbers; what other programs read as one is refused."""
    if host.startswith("["):
        try:
            return IPv6Address(host[1:-1]) if "%" not in host else _no_zone()
        except ValueError as error:
            if isinstance(error, RefusedUrl):
                raise
            raise RefusedUrl("invalid_url", "its host is no IPv6 address") from error
    bare = host.lower().removesuffix(".")
    if not bare.isascii() or _NUMBER.fullmatch(bare.rpartition(".")[2]) is None:
        return None
    if _DOTTED_QUAD.fullmatch(bare) is None:
        raise RefusedUrl("invalid_url", "an IPv4 address must be four decimal numbers")
    try:
        return IPv4Address(bare)
    except ValueError as error:
        raise RefusedUrl("invalid_url", "an IPv4 address must be four decimal numbers up to 255") from error


def _no_zone() -> Address:
    raise RefusedUrl("invalid_url", "an IPv6 address must have no zone")


def _name(host: str) -> str:
    try:
        name = host.encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError as error:
        raise RefusedUrl("invalid_url", "its host is no domain name") from error
    if len(name) > 253 or not all(_LABEL.fullmatch(label) for label in name.split(".")):
        raise RefusedUrl("invalid_url", "its host is no domain name")
    return name


def _refuse_name(name: str, *, allow_private: bool) -> str | None:
    if name in _NEVER_NAMES:
        return "a metadata service"
    if not allow_private and (name == "localhost" or name.endswith(".localhost")):
        return "this machine"
    return None
