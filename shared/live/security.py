"""Who may talk to the hub: by address, Host, Origin and token."""

import hmac
import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from shared.errors import ConfigError

TOKEN_VARIABLE = "SWEETSPOT_LIVE_TOKEN"
MIN_TOKEN_CHARS = 16

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Sent with every answer."""


@dataclass(frozen=True)
class Access:
    """The rules of one hub.

    Attributes:
        host: Address that the hub binds to.
        token: What a viewer or a run must know; None: nothing, on the loopback address only.
        names: Host names, beside addresses and localhost, under which the hub may be called.
    """

    host: str
    token: str | None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"the hub would listen on {self.host}, where others can reach it, without a token: set the environment "
                f"variable {TOKEN_VARIABLE} or give --token-file; without a token only 127.0.0.1 is allowed"
            )
        if self.token is not None and len(self.token) < MIN_TOKEN_CHARS:
            raise ConfigError(f"the token has {len(self.token)} characters; at least {MIN_TOKEN_CHARS} are allowed")

    def refusal(self, headers: Mapping[str, str]) -> str | None:
        """Why a request may not be served, None where it may.

        A page of another site that resolves its own name to this address (DNS rebinding) shows in Host; one that
        connects from the user's browser shows in Origin. What is no browser sends no Origin.
        """
        host = headers.get("host", "")
        if not self._is_ours(host):
            return "this Host is not served here"
        origin = headers.get("origin")
        if origin is not None and _place_of(origin) != host.lower():
            return "this Origin is not allowed"
        return None

    def knows(self, token: object) -> bool:
        """Whether that is the token, compared in constant time; always true where there is none."""
        if self.token is None:
            return True
        given = token if isinstance(token, str) else ""
        return hmac.compare_digest(given.encode("utf-8", "replace"), self.token.encode("utf-8"))

    def accepts(self, given: object, hub_nonce: str, run_nonce: str) -> bool:
        """Whether that is a run's proof that it knows the token; always true where there is none."""
        if self.token is None:
            return True
        shown = given if isinstance(given, str) else ""
        expected = proof(self.token, "run", hub_nonce, run_nonce)
        return hmac.compare_digest(shown.encode("utf-8", "replace"), expected.encode("utf-8"))

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if name in {"localhost", *(own.lower() for own in self.names)}:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)  # an address cannot be rebound


def proof(token: str, role: str, hub_nonce: str, run_nonce: str) -> str:
    """What shows that one knows the token without saying it: an HMAC-SHA256 that is good for one connection only.

    Args:
        token: The token.
        role: "run" or "hub": what the one proves is no use to the other.
        hub_nonce: Drawn by the hub for this connection.
        run_nonce: Drawn by the run for this connection.
    """
    text = json.dumps(["sweetspot-live", role, hub_nonce, run_nonce])
    return hmac.new(token.encode("utf-8"), text.encode("utf-8"), "sha256").hexdigest()


def _place_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # such as "http://[": no address at all
        return None


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None) -> str | None:
    """The token from a file, otherwise from the environment, otherwise none.

    Raises:
        ConfigError: If the file cannot be read or is empty.
    """
    if file is None:
        return os.environ.get(TOKEN_VARIABLE) or None
    try:
        token = file.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--token-file {file} cannot be read: {error}") from error
    if not token:
        raise ConfigError(f"--token-file {file} is empty; it must hold the token")
    return token
