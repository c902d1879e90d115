"""Base classes of the clients, for threads and for asyncio."""

import inspect
import re
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, get_args

import httpx

from nciihash.client.sans_io import RETRY_POLICY, Exchange, Request, RetryPolicy, exchange
from nciihash.client.transport import AsyncTransport, Transport
from nciihash.errors import InvalidRequest, ServiceRefused
from nciihash.wire import Message

_KEY: Final = re.compile(r"[\x21-\x7e]{1,500}")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., object])
M = TypeVar("M", bound=Message)
P = ParamSpec("P")


class BaseClient:
    """A client that blocks until it has the response; a context manager."""

    def __init__(
        self,
        server: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        self._transport = Transport(server, retry=retry, http=http)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.server)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def unanswered(self) -> bool:
        """Whether the last call began to send a write and got no response to it."""
        return self._transport.unanswered

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def break_off(self) -> None:
        """Abort the calls of other threads, and make all later calls fail at once.

        They raise `ServiceUnreachable`. A call that is still connecting may take up to ten more
        seconds.
        """
        self._transport.abort()

    def _call(self, request: Request, model: type[M], *, status: int) -> M:
        """Send a request and return the parsed response."""
        transport = self._transport
        return transport.run(
            exchange(request, model, status=status, retry=transport.retry, clock=transport.clock)
        )


@dataclass(frozen=True, slots=True)
class Session:
    """The credentials and the retry policy of a client, without its I/O.

    Attributes:
        authorization: the value of the `Authorization` header.
        retry: how requests are retried.
        clock: monotonic time in seconds.
    """

    authorization: str = field(repr=False)
    retry: RetryPolicy
    clock: Callable[[], float]

    def call(self, request: Request, model: type[M], *, status: int = 200) -> Exchange[M]:
        """Make an authorized `nciihash.client.sans_io.exchange`.

        Raises:
            ServiceRefused: with a message about the key, if the service answers 401.
        """
        try:
            return (
                yield from exchange(
                    replace(request, authorization=self.authorization),
                    model,
                    status=status,
                    retry=self.retry,
                    clock=self.clock,
                )
            )
        except ServiceRefused as error:
            if error.status != 401:
                raise
            # The service never reveals whether a key once existed, and its message for 401 is about
            # passphrases too.
            raise ServiceRefused(
                error.status,
                error.problem,
                "The clearinghouse does not accept this key",
                "It was mistyped or revoked, or has expired. Check it, or ask the operator for a "
                "new one.",
            ) from None


class KeyedClient(BaseClient):
    """A client that authenticates with a key."""

    def __init__(
        self,
        server: str,
        key: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        authorization = authorization_header(key)
        super().__init__(server, retry=retry, http=http)
        self._session = Session(authorization, retry, self._transport.clock)

    def _call(self, request: Request, model: type[M], *, status: int = 200) -> M:
        """Send an authorized request and return the parsed response."""
        return self._transport.run(self._session.call(request, model, status=status))


class AsyncKeyedClient:
    """A client for asyncio that authenticates with a key; an asynchronous context manager."""

    def __init__(
        self,
        server: str,
        key: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        authorization = authorization_header(key)
        self._transport = AsyncTransport(server, retry=retry, http=http)
        self._session = Session(authorization, retry, self._transport.clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.server)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.close()


def sync_method(
    call: Callable[Concatenate[Session, P], Exchange[T]],
) -> Callable[Concatenate[KeyedClient, P], T]:
    """Turn a sans-I/O call into a method that blocks and returns its result."""

    @wraps(call)
    def method(self: KeyedClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(call(self._session, *args, **kwargs))

    return _with_signature(method, call)


def async_method(
    call: Callable[Concatenate[Session, P], Exchange[T]],
) -> Callable[Concatenate[AsyncKeyedClient, P], Coroutine[Any, Any, T]]:
    """Turn a sans-I/O call into a coroutine method that returns its result."""

    @wraps(call)
    async def method(self: AsyncKeyedClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(call(self._session, *args, **kwargs))

    return _with_signature(method, call)


def _with_signature(method: F, call: Callable[..., object]) -> F:
    """Set the signature that `inspect` shows: that of `call`, from `self` to the `X` of its result.

    `call` takes a `Session` first and is annotated to return an `Exchange[X]`.
    """
    signature = inspect.signature(call)
    _attempt, _outcome, result = get_args(signature.return_annotation)
    first, *others = signature.parameters.values()
    vars(method)["__signature__"] = signature.replace(
        parameters=[first.replace(name="self", annotation=first.empty), *others],
        return_annotation=result,
    )
    return method


def authorization_header(key: str) -> str:
    """Return the value of the `Authorization` header for a key.

    Raises:
        InvalidRequest: the key is empty, too long, or has characters that no key has.
    """
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "The key is empty, too long, or contains characters that no key has. Copy the whole "
            "key again, exactly as the clearinghouse issued it."
        )
    return f"Bearer {key}"


def to_json(message: Message) -> bytes:
    """Serialize a message as a JSON request body."""
    return message.model_dump_json().encode()
