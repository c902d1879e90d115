"""The gate's own HTTP dialect: `POST /check` with a file, answered in JSON.

    curl --data-binary @photo.jpg http://127.0.0.1:8480/check
    curl -F file=@photo.jpg -F file=@clip.mp4 http://127.0.0.1:8480/check

One file is the body, whatever its type, and is answered by
`nciihash.gate.dialects.answers.fields`. Several are the files of a form, and are answered
`{"decision": ..., "files": [...]}`, in their order, with the strictest decision. The status is 200,
or 503 with `Retry-After` if a file that could not be checked is to be refused.

With `?answer=status` the status has the decision too: see
`nciihash.gate.dialects.answers.status_of`.
"""

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from nciihash.gate.dialects import answers
from nciihash.gate.dialects.decision_routes import decision_routes
from nciihash.gate.dialects.requests import check_uploads, guarded, json_response, problem
from nciihash.gate.dialects.uploads import BodyRefused
from nciihash.gate.gate import Gate
from nciihash.gate.outcome import Dialect
from nciihash.gate.status import status_routes

_ANSWERS: Final = ("json", "status")


class UnknownAnswer(BodyRefused):
    """A request for a kind of answer that does not exist."""

    status = 400
    code = "unknown_answer"
    title = "This kind of answer does not exist"
    detail = "Use `?answer=json`, which is the default, or `?answer=status`."


def routes(gate: Gate) -> list[BaseRoute]:
    """Return the routes of the HTTP dialect."""

    async def check(request: Request) -> Response:
        answer = request.query_params.get("answer", "json")
        if answer not in _ANSWERS:
            raise UnknownAnswer
        outcomes = await check_uploads(gate, Dialect.HTTP, request)
        decisive = answers.strictest(outcomes)
        content: dict[str, Any] = answers.fields(decisive)
        if len(outcomes) > 1:
            content = {
                name: content[name] for name in ("decision", "reason", "stop", "as_of", "detail")
            } | {"files": [answers.fields(outcome) for outcome in outcomes]}
        status = answers.status_of(decisive)
        if status == answers.UNCHECKED_STATUS:
            return problem(
                status,
                decisive.reason.value,
                "The upload could not be checked",
                content.pop("detail"),
                headers={"Retry-After": str(answers.retry_after(decisive))},
                members=content,
            )
        return json_response(content, status if answer == "status" else 200)

    return [
        Route("/check", guarded(gate, Dialect.HTTP, check), methods=["POST"]),
        *decision_routes(gate),
        *status_routes(gate),
    ]
