"""Check the HTTP message of a REQMOD or RESPMOD request, and pass it on or replace it.

A message passes with `204`, or is echoed where the client does not allow 204. A stopped one is
replaced by an HTTP response, with `X-Infection-Found` for clients that read nothing else. That is
the answer too if an upload could not be checked and the dialect fails closed: after an ICAP error
some clients accept the upload, such as OpenCloud.
"""

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nciihash.gate.dialects.answers import strictest, threat
from nciihash.gate.dialects.icap.content import Content
from nciihash.gate.dialects.icap.exchange import Exchange
from nciihash.gate.dialects.icap.http_head import HttpHead, prefers_json
from nciihash.gate.dialects.icap.messages import (
    LAST_CHUNK,
    Data,
    End,
    Head,
    Pause,
    chunk,
    encapsulate,
)
from nciihash.gate.dialects.icap.refusal import refusal
from nciihash.gate.outcome import Dialect, Outcome

if TYPE_CHECKING:
    from nciihash.gate.gate import Gate

WRITE: Final = 1 << 16  # bytes of a chunk that is echoed


@dataclass(frozen=True, slots=True)
class Modification:
    """Checks one HTTP message and answers.

    Args:
        gate: decides about the uploads.
        exchange: of the request.
        head: of the request.
    """

    gate: "Gate"
    exchange: Exchange
    head: Head

    async def run(self) -> None:
        """Read the message and answer. Raises what `Exchange.head` does."""
        http = HttpHead.parse(self._message_head)
        with Content(
            http,
            self.gate.upload,
            self.gate.memory,
            inflated=self.gate.config.limits.image_bytes,
            keep=not self.head.allows_204,
        ) as content:
            previewing = self.head.preview is not None
            while True:
                match await self.exchange.event():
                    case Data(data):
                        for _ in content.write(data):
                            await asyncio.sleep(0)
                        if not previewing and content.settled:
                            await self._answer_early(content)
                            return
                    case Pause():
                        if content.settled:
                            await self._answer(await self._decide(content), content, may_204=True)
                            return
                        await self.exchange.proceed()
                        previewing = False
                    case End(in_preview):
                        content.end()
                        outcome = await self._decide(content, whole=True)
                        may_204 = in_preview or self.head.allows_204
                        await self._answer(outcome, content, may_204=may_204)
                        return

    @property
    def _kind(self) -> str:
        return "res" if self.head.method == "RESPMOD" else "req"

    @property
    def _message_head(self) -> bytes:
        return self.head.response if self.head.method == "RESPMOD" else self.head.request

    async def _decide(self, content: Content, *, whole: bool = False) -> Outcome | None:
        """Return the outcome for the uploads in the body; None if it has none."""
        if content.not_a_file(whole=whole) or (whole and not content.received):
            return None
        # One after another: a form may not fill the queue alone.
        outcomes = [await self.gate.check(Dialect.ICAP, upload) for upload in content.uploads]
        return strictest(outcomes) if outcomes else None

    async def _answer(self, outcome: Outcome | None, content: Content, *, may_204: bool) -> None:
        if outcome is not None and outcome.stop:
            await self._stop(outcome)
        elif may_204:
            await self.exchange.answer(204)
        else:
            await self._echo(content)
            if self.head.has_body:
                await self.exchange.write(LAST_CHUNK)

    async def _answer_early(self, content: Content) -> None:
        """Answer about a body of which more is received: read it to its end, or echo it."""
        outcome = await self._decide(content)
        if self.head.allows_204 or (outcome is not None and outcome.stop):
            content.close()
            await self.exchange.skip_body()
            await self._answer(outcome, content, may_204=True)
            return
        await self._echo(content)
        content.close()
        while isinstance(event := await self.exchange.event(), Data):
            await self.exchange.write(chunk(event.data))
        await self.exchange.write(LAST_CHUNK)

    async def _echo(self, content: Content) -> None:
        """Send the message unchanged, as far as it was received."""
        head = self._message_head
        await self.exchange.answer(
            200,
            encapsulated=encapsulate(self._kind, head, has_body=self.head.has_body),
            content=head,
        )
        for part in content.kept:
            for start in range(0, len(part), WRITE):
                await self.exchange.write(chunk(part[start : start + WRITE]))

    async def _stop(self, outcome: Outcome) -> None:
        accept = ",".join(HttpHead.parse(self.head.request).values("accept"))
        head, body = refusal(outcome, as_json=prefers_json(accept))
        name = threat(outcome)
        await self.exchange.answer(
            200,
            [("X-Infection-Found", f"Type=0; Resolution=2; Threat={name};"), ("X-Virus-ID", name)],
            encapsulate("res", head, has_body=True),
            head + chunk(body) + LAST_CHUNK,
        )
