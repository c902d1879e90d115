"""What the clients of all doors are made of."""

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
    """What all clients are made of."""

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
        """Tell whether a request has begun to leave in the last call and was not answered."""
        return self._transport.unanswered

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def break_off(self) -> None:
        """End the calls that other threads are in, and let all later ones fail at once.

        They raise `ServiceUnreachable`. What is connecting goes on for up to ten seconds.
        """
        self._transport.break_off()

    def _call(self, request: Request, reply: type[M], *, status: int) -> M:
        """Send a request and read its answer."""
        way = self._transport
        return way.run(exchange(request, reply, status=status, retry=way.retry, clock=way.clock))


@dataclass(frozen=True, slots=True)
class KeyHolder:
    """A key, and how often requests with it are tried again."""

    bearer: str = field(repr=False)
    retry: RetryPolicy
    clock: Callable[[], float]

    def ask(self, request: Request, reply: type[M], *, status: int = 200) -> Exchange[M]:
        """Ask as `nciihash.client.sans_io.exchange` does, and say so where the key is refused."""
        try:
            return (
                yield from exchange(
                    replace(request, authorization=self.bearer),
                    reply,
                    status=status,
                    retry=self.retry,
                    clock=self.clock,
                )
            )
        except ServiceRefused as error:
            if error.status != 401:
                raise
            # The service tells nobody whether a key was ever one, and speaks of passphrases too.
            raise ServiceRefused(
                error.status,
                error.problem,
                "The clearinghouse does not accept this key",
                "It was mistyped or revoked, or has expired: check it, or ask the operator for a "
                "new one.",
            ) from None


class KeyedClient(BaseClient):
    """A door that a key opens."""

    def __init__(
        self,
        server: str,
        key: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.BaseTransport | None = None,
    ) -> None:
        held = bearer(key)
        super().__init__(server, retry=retry, http=http)
        self._holder = KeyHolder(held, retry, self._transport.clock)

    def _call(self, request: Request, reply: type[M], *, status: int = 200) -> M:
        """Send a request and read its answer, and say so where the key is refused."""
        return self._transport.run(self._holder.ask(request, reply, status=status))


class AsyncKeyedClient:
    """A door that a key opens, for asyncio."""

    def __init__(
        self,
        server: str,
        key: str,
        *,
        retry: RetryPolicy = RETRY_POLICY,
        http: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        held = bearer(key)
        self._transport = AsyncTransport(server, retry=retry, http=http)
        self._holder = KeyHolder(held, retry, self._transport.clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._transport.server)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.close()


def answered(
    call: Callable[Concatenate[KeyHolder, P], Exchange[T]],
) -> Callable[Concatenate[KeyedClient, P], T]:
    """Make a method that returns what a call ends with."""

    @wraps(call)
    def method(self: KeyedClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._transport.run(call(self._holder, *args, **kwargs))

    return _signed(method, call)


def awaited(
    call: Callable[Concatenate[KeyHolder, P], Exchange[T]],
) -> Callable[Concatenate[AsyncKeyedClient, P], Coroutine[Any, Any, T]]:
    """Make a method that is awaited for what a call ends with."""

    @wraps(call)
    async def method(self: AsyncKeyedClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._transport.run(call(self._holder, *args, **kwargs))

    return _signed(method, call)


def _signed(method: F, call: Callable[..., object]) -> F:
    """Let a method's signature end in what the call ends with, for those who look it up."""
    whole = inspect.signature(call)
    _attempt, _outcome, result = get_args(whole.return_annotation)
    first, *others = whole.parameters.values()
    shown = whole.replace(
        parameters=[first.replace(name="self", annotation=first.empty), *others],
        return_annotation=result,
    )
    vars(method)["__signature__"] = shown
    return method


def bearer(key: str) -> str:
    """Write a key as it is sent.

    Raises:
        InvalidRequest: it cannot be one.
    """
    key = key.strip()
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "The key is empty or holds characters that no key has: copy it again, whole, as the "
            "clearinghouse gave it."
        )
    return f"Bearer {key}"


def encoded(message: Message) -> bytes:
    """Write a message as JSON."""
    return message.model_dump_json().encode()
