"""The exceptions that nciihash raises.

Every class has a stable `code` for programs. Every message says in a sentence or two what failed
and what to do next.

    NciihashError
    ├── FileRefused               one file cannot be hashed; continue with the others
    │   ├── NotAFile              a directory, a device, or no such path
    │   ├── UnreadableFile        permission denied, or a disk error
    │   ├── EmptyFile             zero bytes
    │   ├── UnsupportedFormat     not an image or video format that nciihash can open
    │   ├── TooLarge              more bytes, pixels or frames than the limits allow
    │   ├── CorruptFile           truncated or damaged; never hashed in part
    │   ├── TimedOut              decoding took longer than the limit
    │   ├── TooPlain              blank or striped: its hash would match unrelated images
    │   └── ProgramFault          a bug in nciihash or a decoder; the file may be valid
    ├── InvalidPixels             (also a ValueError) an array that is not 8-bit RGB
    ├── SandboxUnavailable        the child process that decodes files could not start
    ├── InvalidSignal             (also a ValueError) not a hash of the type it claims to be
    ├── ResultsInvalid            the results file or folder holds something else
    ├── SourceInvalid             what to scan is missing, or mixes kinds of files
    ├── IndexFileInvalid          an index file: truncated, damaged, foreign or newer
    ├── BankError                 no bank, a closed one, or one that cannot be written
    │   ├── BankLocked            another process has the bank open for writing
    │   ├── BankCorrupt           the snapshot or the journal fails its checksum
    │   ├── BankStale             it never had everything in the feed, or not for too long
    │   ├── WaitingFull           too many unconfirmed candidates (in `nciihash.sdk.veiled`)
    │   └── VeilChanged           the veiled feed now publishes other bits than this bank holds
    ├── EngineUnavailable         the cluster for a scan cannot be reached
    ├── QueueFull                 too many verdicts are waiting to be sent
    ├── QueueInvalid              a verdict queue: damaged, foreign or newer
    ├── DecisionsInvalid          a gate's decisions: as above (in `nciihash.gate.decisions`)
    ├── ReferenceUnknown          no decision of the gate has it (in `nciihash.gate.decisions`)
    ├── ConfigInvalid             the configuration of a gate: `faults` has all that is wrong in it
    ├── ExtraMissing              a package from `pip install "nciihash[…]"` is missing
    └── ServiceError              anything between this client and a clearinghouse
        ├── InvalidRequest        (also a ValueError) an invalid address, key or value; not sent
        ├── PartlySent            the case was opened, but not every file reached it
        ├── ServiceUnreachable    no connection, or a timeout
        ├── ProtocolError         a response that `nciihash.wire` does not define
        └── ServiceRefused        an error response: `status`, `problem`, `title`, `detail`
            └── CursorExpired     the cursor is too old or of another epoch: start a new bank
"""

import errno
from collections.abc import Mapping, Sequence
from os import PathLike, fsdecode
from typing import ClassVar, Final, Self


class NciihashError(Exception):
    """Base class of every exception that nciihash raises on purpose.

    Attributes:
        code: a stable identifier of the class, for programs.
    """

    code: ClassVar[str] = "error"


class FileRefused(NciihashError):
    """One file cannot be hashed; continue with the others."""

    code = "file_refused"


class NotAFile(FileRefused):
    """The path is a directory or a device, or does not exist: pass the path of a file."""

    code = "not_a_file"


class UnreadableFile(FileRefused):
    """The file could not be read: check its permissions, or copy it to another disk."""

    code = "unreadable"


class EmptyFile(FileRefused):
    """The file has no bytes, probably because a copy failed: copy it again from its source."""

    code = "empty_file"


class UnsupportedFormat(FileRefused):
    """The file's format is not supported: export it as JPEG, PNG or MP4."""

    code = "unsupported_format"


class TooLarge(FileRefused):
    """The file has more bytes, pixels or frames than the limits allow: make a smaller copy."""

    code = "too_large"


class CorruptFile(FileRefused):
    """The file is truncated or damaged: use another copy of it."""

    code = "corrupt_file"


class TimedOut(FileRefused):
    """Decoding took longer than the limit: export the file again, or make a smaller copy."""

    code = "timed_out"


class TooPlain(FileRefused):
    """The image has too little detail to be distinguished from others: choose another one."""

    code = "too_plain"


class ProgramFault(FileRefused):
    """nciihash or a decoder failed on a file that may be valid: report it, use another copy."""

    code = "program_fault"

    @classmethod
    def of(cls, error: str) -> Self:
        """Return the refusal of a file whose decoding raised an unexpected exception.

        Args:
            error: the name of the exception's type; its message could quote the file.
        """
        return cls(
            f"A bug in this program prevented it from opening the file ({error}); the file itself "
            "may be valid. Please report this, and meanwhile hash a copy exported as MP4, JPEG or "
            "PNG."
        )


class InvalidPixels(NciihashError, ValueError):
    """The array is empty, or not uint8 (height, width, 3): convert the image to 8-bit RGB."""

    code = "invalid_pixels"


class SandboxUnavailable(NciihashError):
    """The sandboxed process that decodes files could not start, so nothing was decoded.

    nciihash never falls back to decoding in its own process. To accept that risk, pass
    `--no-sandbox`.
    """

    code = "sandbox_unavailable"


class InvalidSignal(NciihashError, ValueError):
    """The value is not a hash of that type: check its length and its hexadecimal digits."""

    code = "invalid_signal"


class ResultsInvalid(NciihashError):
    """The path for the results already holds something else: choose another one."""

    code = "results_invalid"


class SourceInvalid(NciihashError):
    """What to scan is missing or mixes kinds of files: name a folder of one kind."""

    code = "source_invalid"


class IndexFileInvalid(NciihashError):
    """The index file is truncated, damaged, foreign or newer: rebuild it from its source."""

    code = "index_file_invalid"


class BankError(NciihashError):
    """Base class of errors of a bank on disk; raised itself if the bank is missing or closed."""

    code = "bank_error"


class BankLocked(BankError):
    """Another process has this bank open for writing: stop it, or use another bank file."""

    code = "bank_locked"


class BankCorrupt(BankError):
    """The bank fails its checksum: move it away and follow the feed from the beginning."""

    code = "bank_corrupt"


class BankStale(BankError):
    """The bank never had everything in the feed, or not for too long: delay what you look up."""

    code = "bank_stale"


class VeilChanged(BankError):
    """The veiled feed now publishes other bits than this bank holds: follow into a new bank."""

    code = "veil_changed"


class EngineUnavailable(NciihashError):
    """The cluster for the scan cannot be reached: start it, or scan on this machine."""

    code = "engine_unavailable"


class QueueFull(NciihashError):
    """The verdict queue is full: find out why the clearinghouse accepts none, then try again."""

    code = "queue_full"


class QueueInvalid(NciihashError):
    """The verdict queue is damaged, foreign or newer: move it away, or use another file."""

    code = "queue_invalid"


class ConfigInvalid(NciihashError):
    """The configuration of a gate cannot be used: correct what `faults` names.

    Args:
        path: of the file.
        faults: for each of them the key, its value and what to write.

    Attributes:
        faults: the same.
        summary: how many there are in which file.
    """

    code = "config_invalid"

    def __init__(self, path: PathLike[str], faults: Sequence[str]) -> None:
        super().__init__(f"{_printable(path)} cannot be used. {' '.join(faults)}")
        self.faults = tuple(faults)
        self.summary = f"{_printable(path)} cannot be used: it has {len(faults)} faults."


class ExtraMissing(NciihashError):
    """An optional package is not installed: the message has the command that installs it."""

    code = "extra_missing"


class ServiceError(NciihashError):
    """Base class of errors between this client and a clearinghouse.

    Attributes:
        uncertain: whether a write may have been carried out although no valid response arrived.
    """

    code = "service_error"
    uncertain: bool = False

    @property
    def transient(self) -> bool:
        """Whether the same request may succeed later."""
        return False


class InvalidRequest(ServiceError, ValueError):
    """The address, the key or a value is invalid, so nothing was sent: correct it."""

    code = "invalid_request"


class PartlySent(ServiceError):
    """The case was opened, but a later request failed: the rest has to be sent again.

    `__cause__` is the error of the request that failed.

    Attributes:
        receipt: the case and the files known to be in it. The last of them may lack hashes.
    """

    code = "partly_sent"
    uncertain = True

    def __init__(self, receipt: object) -> None:
        super().__init__(
            "The connection failed before everything was sent. The case holds what was sent so "
            "far; send the rest again."
        )
        self.receipt = receipt

    @property
    def transient(self) -> bool:
        """Whether the request that failed may succeed later."""
        return isinstance(self.__cause__, ServiceError) and self.__cause__.transient


class ServiceUnreachable(ServiceError):
    """No connection to the clearinghouse: check the address and the network, then try again."""

    code = "service_unreachable"

    @property
    def transient(self) -> bool:
        """True."""
        return True


class ProtocolError(ServiceError):
    """The response is not valid for this version: check the address and both versions."""

    code = "protocol_error"


class ServiceRefused(ServiceError):
    """The clearinghouse answered with a problem document (RFC 9457).

    Attributes:
        status: the HTTP status.
        problem: the document's stable code.
        title: its summary, the same for every problem with this code.
        detail: what it says about this request.
        retry_after: seconds to wait before a retry, if the service sent that.
        work: the proof of work that the service requires, as it was received.
    """

    code = "service_refused"

    def __init__(
        self,
        status: int,
        problem: str,
        title: str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        work: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(f"{title}. {detail}" if detail else title)
        self.status = status
        self.problem = problem
        self.title = title
        self.detail = detail
        self.retry_after = retry_after
        self.work = work

    @property
    def transient(self) -> bool:
        """Whether the service is overloaded or temporarily failing (429 or 5xx)."""
        return self.status == 429 or self.status >= 500


class CursorExpired(ServiceRefused):
    """The cursor is no longer valid: fetch the feed from its beginning into a new bank."""

    code = "cursor_expired"


_NO_LOCKS: Final = (
    "This file system does not support locks, as some network folders do not: use a folder on a "
    "local disk."
)
_ADVICE: Final = {
    getattr(errno, name): advice
    for names, advice in {
        "ENOSPC EDQUOT": "Free some space there, or choose another folder, and try again.",
        "ENOLCK ENOTSUP EOPNOTSUPP ENOSYS": _NO_LOCKS,
        "EROFS": "Choose a folder that is not read-only.",
        "EACCES EPERM": "Check the permissions of the file and of its parent folders.",
        "EMFILE ENFILE": "Raise the limit of open files (`ulimit -n`), or use fewer `--jobs`.",
        "ENOENT ENOTDIR": "Check the path.",
        "ELOOP ENAMETOOLONG": "Use a shorter path, or one without symbolic links.",
        "EISDIR": "Name a file, not a folder.",
        "EFBIG": "The file system or `ulimit -f` allows no larger file: choose another folder.",
        "EIO ESTALE": "The disk or its connection may be failing: copy important files to another "
        "disk.",
        "ENOMEM": "Free some memory and try again.",
        "ETXTBSY EBUSY": "Another program is using it: try again when that program has ended.",
    }.items()
    for name in names.split()
    if hasattr(errno, name)  # not every system has all of them
}


def describe_os_error(error: OSError) -> str:
    """Return what the system refused, the file concerned and what to do, in a sentence or two."""
    reason = error.strerror or str(error) or "A file operation failed"
    path = "" if error.filename is None else f": {_printable(error.filename)}"
    advice = _ADVICE.get(error.errno or 0, "")
    return f"{reason.rstrip('.')}{path}. {advice}".rstrip()


def _printable(path: object) -> str:
    """Return a path without control characters, which could change the terminal's state."""
    text = fsdecode(path) if isinstance(path, str | bytes | PathLike) else str(path)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
