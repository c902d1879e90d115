"""pict-rs external validation: an upload is sent before it is stored; 2xx keeps it.

pict-rs (`media.external_validation`) sends each upload as the body of a `POST`, chunked, with the
type of the picture or video as it will be stored: after conversion, so with less metadata. Any
status but 2xx refuses the upload, as does a gate that does not answer within
`media.external_validation_timeout` (30 seconds by default). So pict-rs fails closed where there is
no gate; what happens where there is one is up to the policy.
"""

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.gate.dialects import answers
from nciihash.gate.dialects.requests import check_uploads, guarded, json_response
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect

PATH = "/pictrs"


def routes(gate: Gate) -> list[BaseRoute]:
    """Return the route that `media.external_validation` of pict-rs names."""

    async def validate(request: Request) -> Response:
        decisive = answers.strictest(await check_uploads(gate, Dialect.PICTRS, request))
        status = answers.status_of(decisive) if decisive.stop else HTTPStatus.OK
        if decisive.stop and status < HTTPStatus.BAD_REQUEST:
            status = answers.BLOCKED_STATUS  # a review that the configuration counts as a block
        return json_response(answers.fields(decisive), status)

    return [Route(PATH, guarded(gate, Dialect.PICTRS, validate), methods=["POST"])]
