"""The exceptions of the service. Those for clients carry their HTTP status, code and texts.

    ClearinghouseError
    ├── SettingInvalid, KeyMissing, KeyMismatch, NewerDatabase   (for the operator, at startup)
    └── RequestRefused                                           (for clients, sent over HTTP)

Titles and details are fixed texts: nothing from a request is repeated in a response or a log.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from nciihash.wire import Problem
from nciihash.wire.proof_of_work import WorkAsked, WorkProblem


class ClearinghouseError(Exception):
    """Base class of all errors that the service raises on purpose."""


class SettingInvalid(ClearinghouseError):
    """A setting is invalid; the message says which, and what is valid."""


class KeyMissing(ClearinghouseError):
    """The key under which the database is sealed was not found; restore it or set its path."""


class DatabaseMissing(ClearinghouseError):
    """The database file is missing, although its key is there; restore it."""


class DatabaseServed(ClearinghouseError):
    """Another process serves this SQLite database; there may be only one."""


class KeyMismatch(ClearinghouseError):
    """The key is not the one under which the database is sealed."""


class NewerDatabase(ClearinghouseError):
    """The database was migrated by a newer version; install that version."""


class RequestRefused(ClearinghouseError):
    """Base class of the errors that are sent to clients.

    Attributes:
        status: the HTTP status.
        code: a stable identifier, for programs.
        title: what failed.
        detail: what to do next.
        retry_after: seconds to wait before a retry, for the header `Retry-After`.
    """

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    detail: str = ""
    retry_after: float | None = None

    def problem(self) -> Problem:
        """Return the error as a problem document (RFC 9457)."""
        return Problem(title=self.title, status=self.status, detail=self.detail, code=self.code)


class CredentialsMissing(RequestRefused):
    """The request has no credentials, or malformed ones."""

    status = 401
    code = "credentials_missing"
    title = "The credentials are missing or malformed"
    detail = (
        "Send the authentication header that this endpoint requires; see the API documentation."
    )


class InvalidCredentials(RequestRefused):
    """The case is unknown or the passphrase wrong, which look the same; or the key is invalid."""

    status = 401
    code = "credentials_wrong"
    title = "The credentials are wrong"
    detail = "Check the case number and the passphrase, or the key, and try again."


class ScopeMissing(RequestRefused):
    """The key is valid but lacks the scope."""

    status = 403
    code = "scope_missing"
    title = "This key lacks the required scope"
    detail = "Ask the operator of this clearinghouse for a key with that scope."


class TooManyChecks(RequestRefused):
    """Too many new passphrases are being set up at the moment."""

    status = 429
    code = "too_many_checks"
    title = "Too many requests at the moment"
    detail = "Nothing was saved. Wait a few seconds and send the same request again."
    retry_after = 3.0


class _WorkMissing(RequestRefused):
    """The request needs a new proof of work; the error carries the challenge."""

    status = 428

    def __init__(self, work: WorkAsked) -> None:
        super().__init__()
        self.work = work

    def problem(self) -> WorkProblem:
        """Return the error with its challenge."""
        return WorkProblem(**super().problem().model_dump(), work=self.work)


class WorkNeeded(_WorkMissing):
    """Submitting needs a proof of work: many hashes are being submitted, or the case is large."""

    code = "work_needed"
    title = "This request needs a proof of work"
    detail = (
        "Nothing was saved. Solve the challenge in `work`, or that of GET /v1/work, and send the "
        "same request again with the solution in `work`."
    )


class CheckWorkNeeded(_WorkMissing):
    """Signing in needs a proof of work: many passphrases are waiting to be checked."""

    code = "work_needed_to_sign_in"
    title = "Signing in needs a proof of work at the moment"
    detail = (
        "Nothing was changed. Solve the challenge in `work`, and send the same request again with "
        "the solution in the header `Work`."
    )


class DeclarationMissing(RequestRefused):
    """The declaration does not state that the person is over 18 and in the picture."""

    status = 422
    code = "declaration_missing"
    title = "This service is for adults who are in the picture themselves"
    detail = (
        "If somebody in the picture was under 18, Take It Down (takeitdown.ncmec.org) and, in the "
        "United Kingdom, Report Remove can help. Do not copy or send the picture."
    )


class NothingAccepted(RequestRefused):
    """No signal of any file was accepted."""

    status = 422
    code = "nothing_accepted"
    title = "None of these hashes can be used"
    detail = (
        "Nothing was saved. The pictures have too little detail to be recognized reliably, or this "
        "clearinghouse does not match this type of hash."
    )


class TooManyItems(RequestRefused):
    """The case would exceed its limit of files."""

    status = 422
    code = "too_many_items"
    title = "The case would have too many files"
    detail = (
        "Nothing was added. A case can have 200 files, or 1,000 if an advocate opened it. Open "
        "another case for the rest."
    )


class TooManySignals(RequestRefused):
    """The file would exceed its limit of hashes."""

    status = 422
    code = "too_many_signals"
    title = "The file would have too many hashes"
    detail = "Nothing was added. A file can have 2,048 hashes; those sent before are kept."


class PartOutOfOrder(RequestRefused):
    """The file is complete already, or its parts are sent out of order."""

    status = 409
    code = "not_the_next_part"
    title = "This is not the next part of the file"
    detail = (
        "Nothing was added. Read the status of the case; if the file is not complete, submit it "
        "again as a new file."
    )


class ContributionsFull(RequestRefused):
    """The platform would exceed its limit of contributed hashes."""

    status = 422
    code = "contributions_full"
    title = "The limit of contributed hashes is reached"
    detail = (
        "Nothing was added. Withdraw contributions that are no longer needed, or ask the operator "
        "of this clearinghouse for a higher limit."
    )


class CaseClosed(RequestRefused):
    """The case was withdrawn or has expired."""

    status = 409
    code = "case_closed"
    title = "This case is closed"
    detail = "It was withdrawn or has expired. Open a new case to add files."


class ConsentMissing(RequestRefused):
    """The advocate has not confirmed that the person agreed."""

    status = 422
    code = "consent_missing"
    title = "The person in the picture must agree first"
    detail = "Nothing was saved. Ask the person, and set `consent` only if they agree."


class CaseUnknown(RequestRefused):
    """The advocate has no case with this reference."""

    status = 404
    code = "case_unknown"
    title = "You have no case with this reference"
    detail = "List your cases for their references. A case that was handed over is no longer yours."


class CodeUnknown(RequestRefused):
    """The handover code is unknown, used or expired."""

    status = 404
    code = "code_unknown"
    title = "This code does not open a case"
    detail = "Check each character. If it was used or is older than a week, ask for a new one."


class ItemUnknown(RequestRefused):
    """The case has no file with this number."""

    status = 404
    code = "item_unknown"
    title = "The case has no file with this number"
    detail = "Read the status of the case, which lists its files."


class BadIdempotencyKey(RequestRefused):
    """The Idempotency-Key header is not 32 hexadecimal digits."""

    status = 400
    code = "bad_idempotency_key"
    title = "The idempotency key is not valid"
    detail = (
        "Send 128 random bits as 32 lowercase hexadecimal digits. Use a new key for each request, "
        "and the same key for its retries."
    )


class IdempotencyConflict(RequestRefused):
    """The idempotency key was used with another body."""

    status = 422
    code = "idempotency_conflict"
    title = "This idempotency key was used for another request"
    detail = (
        "Use a new key for each request. Reuse a key only to retry the same request, unchanged."
    )


class BadCursor(RequestRefused):
    """The cursor was not issued to this platform."""

    status = 400
    code = "bad_cursor"
    title = "The cursor is not valid"
    detail = (
        "Send the cursor of the last page, unchanged, or no cursor to start from the beginning."
    )


class CursorExpired(RequestRefused):
    """The cursor is of another epoch of the log: the database was restored since."""

    status = 410
    code = "cursor_expired"
    title = "The cursor has expired"
    detail = (
        "Read the feed from the beginning into a new bank, and replace the old bank when that is "
        "complete."
    )


class BadBody(RequestRefused):
    """The request does not match the schema of the endpoint."""

    status = 422
    code = "invalid_request"
    title = "The request is not valid"
    detail = "Compare the request with the OpenAPI document."

    def __init__(self, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        """Describe the first of Pydantic's errors."""
        super().__init__()
        if errors:
            described = [_describe(error) for error in errors[:_DESCRIBED]]
            if len(errors) > _DESCRIBED:
                described.append(f"and {len(errors) - _DESCRIBED} more")
            self.detail = f"Fields: {', '.join(described)}."


_DESCRIBED: Final = 5  # errors


def _describe(error: Mapping[str, Any]) -> str:
    """Return the field and the kind of error, without input or the name of an unknown field."""
    kind, path = error["type"], list(error["loc"])
    if kind == "extra_forbidden":
        path.pop()
    return f"{'.'.join(map(str, path))} ({kind})"


class NotJson(RequestRefused):
    """The body is not JSON."""

    status = 400
    code = "not_json"
    title = "The body is not JSON"
    detail = "Send JSON in UTF-8, as the OpenAPI document describes it."


class UnsupportedMediaType(RequestRefused):
    """The body has a content type that is never accepted, such as a picture."""

    status = 415
    code = "unsupported_media_type"
    title = "This service accepts hashes, never pictures"
    detail = (
        "Send application/json, or application/octet-stream where the API documentation says so."
    )


class BodyTooLarge(RequestRefused):
    """The body is larger than any valid request."""

    status = 413
    code = "body_too_large"
    title = "The request is too large"
    detail = "Send fewer hashes per request. Never send pictures to this service."


class BodyTimeout(RequestRefused):
    """The body did not arrive in time."""

    status = 408
    code = "too_slow"
    title = "The request arrived too slowly"
    detail = "Nothing was saved. Check the connection and send the same request again."


class TypeNotMatched(RequestRefused):
    """The query is for a type of hash that this clearinghouse does not match."""

    status = 422
    code = "type_not_matched"
    title = "This clearinghouse does not match this type of hash"
    detail = "Query with PDQ hashes, or ask the operator of this clearinghouse to match this type."


class BudgetSpent(RequestRefused):
    """The key has used up its query budget for this hour or day."""

    status = 429
    code = "budget_spent"
    title = "The query budget of this key is used up"
    detail = (
        "Wait for the time in Retry-After, or ask the operator of this clearinghouse for a larger "
        "budget."
    )

    def __init__(self, retry_after: float) -> None:
        super().__init__()
        self.retry_after = retry_after


class NotFound(RequestRefused):
    """The path is unknown."""

    status = 404
    code = "not_found"
    title = "This path does not exist"
    detail = "Check the URL; the OpenAPI document lists all paths."


class MethodNotAllowed(RequestRefused):
    """The path does not support the method."""

    status = 405
    code = "method_not_allowed"
    title = "This path does not support the method"
    detail = "Use one of the methods in the header `Allow`."


class NotReady(RequestRefused):
    """The index has not caught up with the log yet."""

    status = 503
    code = "not_ready"
    title = "The service is not ready"
    detail = "Its index is not up to date yet. Send the same request again in a moment."
    retry_after = 1.0


class Busy(RequestRefused):
    """The database was locked for longer than a request can wait."""

    status = 503
    code = "busy"
    title = "The service is busy"
    detail = (
        "Send the same request again in a moment, with the same idempotency key. A retry is safe."
    )
    retry_after = 2.0


class DatabaseUnavailable(RequestRefused):
    """The database cannot be reached, or its disk is full."""

    status = 503
    code = "database_away"
    title = "The service cannot use its database at the moment"
    detail = (
        "Send the same request again in a moment, with the same idempotency key. A retry is safe."
    )
    retry_after = 5.0


class InternalError(RequestRefused):
    """An unexpected error in the service."""

    status = 500
    code = "internal_error"
    title = "The service had an internal error"
    detail = "Send the same request again, with the same idempotency key. A retry is safe."
