"""A module for Synapse, the Matrix home server, that asks a gate about every file.

It imports nothing of `nciihash`, and needs only what Synapse itself needs. So it works wherever
Synapse finds this file: `nciihash` need not be installed there. examples/gate/synapse.md describes
its settings.

Synapse calls it for uploads, for media of other servers, for images of URL previews, and for
thumbnails of all of these. Files of encrypted chats are encrypted before they are uploaded: no
server can check them.
"""

import ipaddress
import logging
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from synapse.module_api import NOT_SPAM, ModuleApi, make_deferred_yieldable
from synapse.module_api.errors import Codes, ConfigError
from twisted.internet import defer, protocol
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.http_headers import Headers

if TYPE_CHECKING:
    from synapse.media._base import FileInfo
    from synapse.media.media_storage import ReadableFileWrapper

_log: Final = logging.getLogger(__name__)

_KEYS: Final = {"gate", "review", "on_error", "token", "private", "timeout"}
_CHOICES: Final = {"accept", "refuse"}
_CONNECT_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 1 << 16

# The statuses of the gate's `POST /check?answer=status`. The gate refuses a file that cannot be
# hashed with one of the last three, if it is configured to.
_CLEAR: Final = 200
_REVIEW: Final = 202
_REFUSED: Final = frozenset({451, 413, 415, 422})


@dataclass(frozen=True)
class Settings:
    """The settings of the module.

    Attributes:
        address: of the gate's own HTTP, without a path.
        refuse_reviews: whether a file is refused that a person should look at.
        refuse_on_error: whether a file is refused that the gate did not check.
        token: the secret that the gate wants; None for none.
        timeout: seconds for an answer, the upload included.
    """

    address: str
    refuse_reviews: bool
    refuse_on_error: bool
    token: str | None = field(default=None, repr=False)
    timeout: float = 30.0


class GateSpamChecker:
    """Refuses the files that a gate blocks.

    Args:
        settings: as `parse_config` returns them.
        api: of Synapse.
    """

    def __init__(self, settings: Settings, api: ModuleApi) -> None:
        # Synapse installs its reactor before it loads modules, and after this file may be imported.
        from twisted.internet import reactor

        self._settings = settings
        self._reactor: Any = reactor
        self._url = f"{settings.address}/check?answer=status".encode("ascii")
        self._headers = {b"Content-Type": [b"application/octet-stream"]}
        if settings.token is not None:
            self._headers[b"Authorization"] = [b"Bearer " + settings.token.encode("ascii")]
        self._agent = Agent(
            reactor, connectTimeout=_CONNECT_SECONDS, pool=HTTPConnectionPool(reactor)
        )
        api.register_spam_checker_callbacks(
            check_media_file_for_spam=self.check_media_file_for_spam
        )

    @staticmethod
    def parse_config(config: Mapping[str, object]) -> Settings:
        """Return the settings.

        Raises:
            ConfigError: a setting is missing, unknown or invalid; the message names it and not its
                value.
        """
        unknown = ", ".join(sorted(str(key) for key in config.keys() - _KEYS))
        if unknown:
            raise ConfigError(f"These settings of the gate do not exist: {unknown}.")
        for key in ("review", "on_error"):
            if config.get(key) not in _CHOICES:
                raise ConfigError(f"Set `{key}` of the gate to `accept` or `refuse`.")
        token = config.get("token")
        if token is not None and not (isinstance(token, str) and token.isascii() and token.strip()):
            raise ConfigError("`token` of the gate must be a text of ASCII characters.")
        timeout = config.get("timeout", 30.0)
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or timeout <= 0:
            raise ConfigError("`timeout` of the gate must be a number of seconds.")
        return Settings(
            _address(config.get("gate"), private=config.get("private") is True),
            refuse_reviews=config["review"] == "refuse",
            refuse_on_error=config["on_error"] == "refuse",
            token=token,
            timeout=float(timeout),
        )

    async def check_media_file_for_spam(
        self, file_wrapper: "ReadableFileWrapper", file_info: "FileInfo"
    ) -> Codes | str:
        """Ask the gate about a file that Synapse is about to store."""
        if file_info.thumbnail is not None:
            return NOT_SPAM  # of a file that has been checked
        try:
            status = await self._ask(file_wrapper.path)
        except Exception as error:  # noqa: BLE001 - Synapse needs an answer, whatever happens
            return self._unanswered(type(error).__name__)
        if status in _REFUSED or (status == _REVIEW and self._settings.refuse_reviews):
            return Codes.FORBIDDEN
        if status in {_CLEAR, _REVIEW}:
            return NOT_SPAM
        return self._unanswered(f"status {status}")

    def _unanswered(self, why: str) -> Codes | str:
        refused = self._settings.refuse_on_error
        done = "refused" if refused else "accepted"
        _log.warning("The gate did not check a file, which is %s: %s.", done, why)
        return Codes.FORBIDDEN if refused else NOT_SPAM

    async def _ask(self, path: str) -> int:
        """Send a file to the gate and return the status of its answer.

        The file is read in pieces, as fast as the gate takes them.
        """
        answer = self._send(path)
        answer.addTimeout(self._settings.timeout, self._reactor)
        return int(await make_deferred_yieldable(answer))

    @defer.inlineCallbacks
    def _send(self, path: str) -> Generator[Any, Any, int]:
        with open(path, "rb") as file:  # noqa: PTH123 - as Synapse reads it
            response = yield self._agent.request(
                b"POST", self._url, Headers(self._headers), FileBodyProducer(file)
            )
            read = _Read()
            response.deliverBody(read)
            yield read.done
        return int(response.code)


class _Read(protocol.Protocol):  # type: ignore[misc, unused-ignore]
    """Reads the body of a response, so that the connection can be used again, and drops it."""

    def __init__(self) -> None:
        self.done: Any = defer.Deferred(lambda _: self._abort())
        self._size = 0

    def dataReceived(self, data: bytes) -> None:  # noqa: N802 - Twisted's name
        self._size += len(data)
        if self._size > _ANSWER_BYTES:
            self._abort()

    def connectionLost(self, reason: object = protocol.connectionDone) -> None:  # noqa: ARG002, N802
        if not self.done.called:
            self.done.callback(None)

    def _abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


def _address(address: object, *, private: bool) -> str:
    """Return the address of a gate, as configured.

    Raises:
        ConfigError: it is none, or files would be sent over a network as plain text.
    """
    text = address if isinstance(address, str) and address.isascii() else ""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"}:
        raise ConfigError("Set `gate` to the address of the gate, such as http://127.0.0.1:8460.")
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ConfigError("`gate` may contain only a host and a port.")
    if parts.scheme == "http" and not private and not _is_loopback(host):
        raise ConfigError(
            "Over plain http:// others on the network could see the files. Use https:// for the "
            "gate, or set `private: true` if only your own machines share its network."
        )
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
