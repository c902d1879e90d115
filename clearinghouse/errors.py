"""What can be refused, as exceptions, and the one table that turns each into an HTTP answer.

    ClearinghouseError
    ├── SettingInvalid, KeyMissing, KeyMismatch, NewerDatabase   (the operator's, at start)
    └── RequestRefused                                           (a caller's, sent over HTTP)

The details are fixed sentences: nothing that a caller sent is ever repeated to her or to a log.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from nciihash.wire import Problem
from nciihash.wire.proof_of_work import WorkAsked, WorkProblem


class ClearinghouseError(Exception):
    """Base of every error raised on purpose in the service."""


class SettingInvalid(ClearinghouseError):
    """A setting does not make sense: the message says which and what would."""


class KeyMissing(ClearinghouseError):
    """The database is sealed with a key that was not given: restore it or name its place."""


class KeyMismatch(ClearinghouseError):
    """The key is not the one that this database is sealed with."""


class NewerDatabase(ClearinghouseError):
    """The database was migrated by a newer version: install that version."""


class RequestRefused(ClearinghouseError):
    """Base of what a caller is refused; `status`, `code`, `title` and `detail` are fixed."""

    status: ClassVar[int]
    code: ClassVar[str]
    title: ClassVar[str]
    detail: str = ""
    retry_after: float | None = None

    def problem(self) -> Problem:
        """Write the refusal as a problem document (RFC 9457)."""
        return Problem(title=self.title, status=self.status, detail=self.detail, code=self.code)


class CredentialsMissing(RequestRefused):
    """No usable credentials in the headers."""

    status = 401
    code = "credentials_missing"
    title = "Credentials are missing"
    detail = "Send the headers with credentials that this address asks for."


class CredentialsWrong(RequestRefused):
    """An unknown case or a wrong passphrase, which look the same; or an unknown key."""

    status = 401
    code = "credentials_wrong"
    title = "The credentials are not right"
    detail = "Check the case number and the passphrase, or the key, and send them again."


class ScopeMissing(RequestRefused):
    """The key is right and does not open this door."""

    status = 403
    code = "scope_missing"
    title = "This key has no scope for that"
    detail = "Ask the operator of this clearinghouse for a key with the scope."


class TooManyChecks(RequestRefused):
    """Too many passphrases are being checked at the moment."""

    status = 429
    code = "too_many_checks"
    title = "Too many requests are being checked right now"
    detail = "Nothing is lost. Wait a few seconds and send the same request again."
    retry_after = 3.0


class _WorkMissing(RequestRefused):
    """A fresh proof of work has to come with this request: the problem says what to solve."""

    status = 428

    def __init__(self, work: WorkAsked) -> None:
        """Take what is asked for."""
        super().__init__()
        self.work = work

    def problem(self) -> WorkProblem:
        """Write the refusal, and the challenge."""
        return WorkProblem(**super().problem().model_dump(), work=self.work)


class WorkNeeded(_WorkMissing):
    """Much is being taken in, or the case is large."""

    code = "work_needed"
    title = "Sending this takes a little work right now"
    detail = (
        "Nothing was saved. Solve the challenge in `work`, or that of GET /v1/work, and send the "
        "same request again with it."
    )


class CheckWorkNeeded(_WorkMissing):
    """Many passphrases wait to be checked."""

    code = "work_needed_to_sign_in"
    title = "Signing in takes a little work right now"
    detail = (
        "Nothing was changed. Solve the challenge in `work`, and send the same request again with "
        "the solution in the header `Work`."
    )


class DeclarationMissing(RequestRefused):
    """Not over 18, or not the person depicted."""

    status = 422
    code = "declaration_missing"
    title = "This service is for adults who are in the picture themselves"
    detail = (
        "If somebody in the picture was under 18, Take It Down (takeitdown.ncmec.org) and, in the "
        "United Kingdom, Report Remove can help. Do not copy or send the picture."
    )


class NothingAccepted(RequestRefused):
    """Every signal of every file was refused."""

    status = 422
    code = "nothing_accepted"
    title = "None of these hashes can be used"
    detail = (
        "They are too plain to tell the pictures from others, or not of a kind that is matched by "
        "here. Nothing was saved."
    )


class TooManyItems(RequestRefused):
    """The case would hold more files than it may."""

    status = 422
    code = "too_many_items"
    title = "The case would hold more files than it may"
    detail = "A case holds 200 files. Nothing was added. Open another case for the other files."


class TooManySignals(RequestRefused):
    """The file would hold more hashes than it may."""

    status = 422
    code = "too_many_signals"
    title = "The file would hold more hashes than it may"
    detail = "A file holds 2,048 hashes. Nothing was added; what was sent before stays."


class NotTheNextPart(RequestRefused):
    """All parts of the file were sent, or the parts are not sent in their order."""

    status = 409
    code = "not_the_next_part"
    title = "This is not the next part of the file"
    detail = (
        "Nothing was added. Read the case; if the file lacks a part, send the whole file again."
    )


class ContributionsFull(RequestRefused):
    """The platform would hold more contributed hashes than it may."""

    status = 422
    code = "contributions_full"
    title = "This key has contributed as many hashes as it may"
    detail = "Nothing was added. Take back what is no longer needed, or ask the operator for more."


class CaseClosed(RequestRefused):
    """The case was withdrawn or has expired."""

    status = 409
    code = "case_closed"
    title = "This case is closed"
    detail = "It was withdrawn or has expired. Open a new case to add files."


class ConsentMissing(RequestRefused):
    """The advocate does not say that the person agreed."""

    status = 422
    code = "consent_missing"
    title = "The person in the picture has to agree first"
    detail = "Ask whether this is wanted, and say yes for them only then. Nothing was saved."


class CaseUnknown(RequestRefused):
    """No case with this reference is in this advocate's hands."""

    status = 404
    code = "case_unknown"
    title = "No case with this reference is in your hands"
    detail = "List your cases. A case that was handed over belongs to its holder alone."


class CodeUnknown(RequestRefused):
    """The code was never given, has been used, or has run out."""

    status = 404
    code = "code_unknown"
    title = "This code does not open a case"
    detail = "Check each letter. If it was used or is older than a week, ask for a new one."


class ItemUnknown(RequestRefused):
    """The case has no file with this number."""

    status = 404
    code = "item_unknown"
    title = "The case has no file with this number"
    detail = "The status of the case lists the numbers of its files."


class BadIdempotencyKey(RequestRefused):
    """The Idempotency-Key header is not 32 hexadecimal digits."""

    status = 400
    code = "bad_idempotency_key"
    title = "The idempotency key is not usable"
    detail = "Send 128 random bits as 32 lowercase hexadecimal digits, new for each request."


class IdempotencyConflict(RequestRefused):
    """The same key came with another body."""

    status = 422
    code = "idempotency_conflict"
    title = "This idempotency key was used for another request"
    detail = "Use a new key for a new request, and the old one only to repeat the old request."


class BadCursor(RequestRefused):
    """Not a cursor that this platform was given."""

    status = 400
    code = "bad_cursor"
    title = "The cursor is not one of yours"
    detail = "Send the cursor of the last page, unchanged, or none to start from the beginning."


class CursorExpired(RequestRefused):
    """A cursor of another epoch of the log, or from before its retention."""

    status = 410
    code = "cursor_expired"
    title = "The cursor has expired"
    detail = "Follow the feed from its beginning into a new bank, and swap it in when complete."


class BadBody(RequestRefused):
    """The body does not have the form that the address asks for."""

    status = 422
    code = "invalid_request"
    title = "The request does not have the right form"

    def __init__(self, errors: Sequence[Mapping[str, Any]] = ()) -> None:
        """Take Pydantic's errors, of which the first five are told."""
        super().__init__()
        if errors:
            places = [_place(error) for error in errors[:_TOLD]]
            if len(errors) > _TOLD:
                places.append(f"and {len(errors) - _TOLD} more")
            self.detail = f"Fields: {', '.join(places)}."


_TOLD: Final = 5


def _place(error: Mapping[str, Any]) -> str:
    """Say where and what, in our words only: no input, and no name of an unknown field."""
    kind, path = error["type"], list(error["loc"])
    if kind == "extra_forbidden":
        path.pop()
    return f"{'.'.join(map(str, path))} ({kind})"


class NotJson(RequestRefused):
    """The body is not JSON."""

    status = 400
    code = "not_json"
    title = "The body is not JSON"
    detail = "Send UTF-8 encoded JSON as the OpenAPI document describes it."


class MediaRefused(RequestRefused):
    """The body is of a type that is never taken, such as a picture."""

    status = 415
    code = "unsupported_media_type"
    title = "This service takes hashes, never pictures"
    detail = "Send application/json (or application/octet-stream where the documents name it)."


class TooLarge(RequestRefused):
    """The body is larger than any valid request."""

    status = 413
    code = "body_too_large"
    title = "The request is too large"
    detail = "Send fewer hashes at a time. Pictures must never be sent here."


class TooSlow(RequestRefused):
    """The body did not arrive in time."""

    status = 408
    code = "too_slow"
    title = "The request arrived too slowly"
    detail = "Nothing was saved. Check the connection and send the same request again."


class TypeNotMatched(RequestRefused):
    """A query for hashes of a type that is not matched by."""

    status = 422
    code = "type_not_matched"
    title = "This clearinghouse does not match by this type of hash"
    detail = "Look for PDQ hashes, or ask the operator to match by this type as well."


class BudgetSpent(RequestRefused):
    """The key has looked for as many hashes as it may in this hour or on this day."""

    status = 429
    code = "budget_spent"
    title = "This key has looked for as many hashes as it may for now"
    detail = "Wait as long as Retry-After says, or ask the operator for a larger budget."

    def __init__(self, retry_after: float) -> None:
        """Take the seconds until there is more."""
        super().__init__()
        self.retry_after = retry_after


class NotFound(RequestRefused):
    """Nothing is at this address."""

    status = 404
    code = "not_found"
    title = "There is nothing at this address"


class MethodRefused(RequestRefused):
    """The address does not take this method."""

    status = 405
    code = "method_not_allowed"
    title = "This address does not take that method"


class NotReady(RequestRefused):
    """The index has not caught up with the log yet."""

    status = 503
    code = "not_ready"
    title = "The service is starting"
    detail = "It is loading its index. Try again in a moment."
    retry_after = 1.0


class Busy(RequestRefused):
    """The database is held by somebody else for longer than a request can wait."""

    status = 503
    code = "busy"
    title = "The service is busy"
    detail = "Nothing is lost. Send the same request again in a moment; it is safe to repeat."
    retry_after = 2.0


class DatabaseUnavailable(RequestRefused):
    """The database cannot be reached, or has no space left."""

    status = 503
    code = "database_away"
    title = "The service cannot reach its records at the moment"
    detail = (
        "Send the same request again in a moment, with the same idempotency key. It is safe to "
        "repeat."
    )
    retry_after = 5.0


class InternalError(RequestRefused):
    """A fault of ours."""

    status = 500
    code = "internal_error"
    title = "Something went wrong on our side"
    detail = "Send the same request again, with the same idempotency key. It is safe to repeat."
