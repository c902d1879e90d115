"""PieFed's hashing endpoint: `GET /pdq-hash?image_url=URL`.

PieFed (`IMAGE_HASHING_ENDPOINT`) fetches the PDQ hash of an image here, and compares it with a list
of its own: `blocked_image` in its database, which examples/gate/fill_piefed_list.py fills from the
bank. So the gate only hashes, and decides nothing. PieFed uses a hash of quality 70 or more, blocks
an image within 14 bits of one in the list, tries again after the status 429, and accepts the image
after any other.
"""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.errors import FileRefused, SandboxUnavailable
from nciihash.gate.dialects.fetching import Fetcher, FetchRefused
from nciihash.gate.dialects.requests import authorized, json_response, skip_body, while_connected
from nciihash.gate.dialects.uploads import ClientGone
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect, Reason
from nciihash.gate.pool import PoolFull
from nciihash.signals import Item, Level, Media, SignalType

PATH: Final = "/pdq-hash"
_NOT_HASHED: Final = "The image cannot be hashed."
_BUSY: Final = "The gate has no capacity left. Try again."


def routes(gate: Gate, fetcher: Fetcher | None = None) -> list[BaseRoute]:
    """Return the route that PieFed's `IMAGE_HASHING_ENDPOINT` names.

    Args:
        gate: hashes the images.
        fetcher: fetches them; by default one with the system's resolver.
    """
    fetching = fetcher or Fetcher()

    async def hash_image(request: Request) -> Response:
        settings = gate.config.dialects[Dialect.PIEFED]
        if settings.token is not None and not authorized(request, settings.token):
            return _error(401, "The token is missing or wrong.")
        if not (url := request.query_params.get("image_url")):
            return _error(400, "Missing 'image_url' query parameter")
        with gate.upload() as upload:
            try:
                await skip_body(request)
                fetched = fetching.fetch(url, upload, settings.hosts)
                await while_connected(request.receive, fetched)
                if upload.refused is not None:
                    busy = upload.refused is Reason.QUEUE_FULL
                    return _error(429, _BUSY) if busy else _error(400, _NOT_HASHED)
                hashing = gate.pool.hash(upload.data, level=Level.FAST, then=_as_is)
                item = await while_connected(request.receive, hashing)
            except FetchRefused as refusal:
                return _error(400, str(refusal))
            except FileRefused:
                return _error(400, _NOT_HASHED)
            except PoolFull:
                return _error(429, _BUSY)
            except SandboxUnavailable:
                return _error(503, "The process that decodes images cannot start.")
            except ClientGone:
                return Response(status_code=400)
        return _hash_response(item)

    return [Route(PATH, hash_image, methods=["GET"])]


def _as_is(item: Item) -> Item:
    return item


def _hash_response(item: Item) -> Response:
    """Return the hash of an image as 256 binary digits, the most significant first."""
    hashed = item.hashes[0]
    if item.media is not Media.IMAGE or hashed.signal.type is not SignalType.PDQ:
        return _error(400, _NOT_HASHED)
    bits = f"{int.from_bytes(hashed.signal.value, 'big'):0{SignalType.PDQ.bits}b}"
    # a hash with ties differs between programs
    quality = 0 if hashed.tied else hashed.quality
    return json_response({"pdq_hash_binary": bits, "quality": quality})


def _error(status: int, message: str) -> Response:
    return json_response({"error": message}, status)
