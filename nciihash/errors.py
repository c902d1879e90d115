"""Everything that can go wrong here, as one tree.

Each class has a stable `code` for machines; each message is one sentence or two for a person and
says what to do next.

    NciihashError
    ├── FileRefused               one file cannot be hashed; the others go on
    │   ├── NotAFile              a directory, a device, a path that does not exist
    │   ├── UnreadableFile        permission denied, a disk error
    │   ├── EmptyFile
    │   ├── UnsupportedFormat     not a picture or a video that we can open
    │   ├── TooLarge              more bytes, pixels or frames than the limits allow
    │   ├── CorruptFile           truncated or damaged: never hashed by halves
    │   ├── TimedOut              decoding took longer than the limit
    │   ├── TooPlain              flat or striped: its hash would match strangers' pictures
    │   └── ProgramFault          this program failed, which says nothing about the file
    ├── InvalidPixels             (also a ValueError) an array that is not 8-bit RGB pixels
    ├── SandboxUnavailable        the child process that decodes files could not start
    ├── InvalidSignal             (also a ValueError) not a hash of the type it claims to be
    ├── ResultsInvalid            a file of results that holds something else
    ├── SourceInvalid             what is to be scanned is not there, or of several kinds
    ├── IndexFileInvalid          an index file that is truncated, damaged, foreign or newer
    ├── BankError
    │   ├── BankLocked            another process is using the bank
    │   ├── BankCorrupt           the snapshot or the journal fails its checksum
    │   └── VeilChanged           the veiled list shows another part of each hash
    ├── EngineUnavailable         the machines that were to scan are not there
    ├── QueueFull                 too many verdicts wait to be sent
    ├── QueueInvalid              a queue of verdicts that is damaged, foreign or newer
    ├── ExtraMissing              a part that comes with `pip install "nciihash[…]"` is not there
    └── ServiceError              the clearinghouse
        ├── InvalidRequest        (also a ValueError) an address, key or value not fit to be sent
        ├── PartlySent            the case is open, and holds a part of what was to be sent
        ├── ServiceUnreachable    no connection, or none in time
        ├── ProtocolError         an answer that is not what `nciihash.wire` defines
        └── ServiceRefused        a problem document: `status`, `code`, `title`, `detail`
            └── CursorExpired     the cursor is too old or of another epoch: start a new bank
"""

import errno
from collections.abc import Mapping
from os import fsdecode
from typing import ClassVar, Final, Self


class NciihashError(Exception):
    """Base of every error raised on purpose here."""

    code: ClassVar[str] = "error"


class FileRefused(NciihashError):
    """One file cannot be hashed; go on with the others."""

    code = "file_refused"


class NotAFile(FileRefused):
    """The path is a directory or a device, or nothing is there: give the path of a file."""

    code = "not_a_file"


class UnreadableFile(FileRefused):
    """The file could not be read: check its permissions, or copy it to another place."""

    code = "unreadable"


class EmptyFile(FileRefused):
    """The file holds no bytes: the copy probably failed, so fetch it from where it came."""

    code = "empty_file"


class UnsupportedFormat(FileRefused):
    """Not a format that can be opened here: export it as JPEG or PNG and try again."""

    code = "unsupported_format"


class TooLarge(FileRefused):
    """The file has more bytes, pixels or frames than the limits allow: make a smaller copy."""

    code = "too_large"


class CorruptFile(FileRefused):
    """The file is truncated or damaged: use another copy of it."""

    code = "corrupt_file"


class TimedOut(FileRefused):
    """Decoding took longer than the limit: export the file anew, or make a smaller copy."""

    code = "timed_out"


class TooPlain(FileRefused):
    """The picture has too little structure to be told from others: choose another one."""

    code = "too_plain"


class ProgramFault(FileRefused):
    """The program failed on a file that may be sound: use another copy, and report it."""

    code = "program_fault"

    @classmethod
    def of(cls, error: str) -> Self:
        """Make the refusal of a file on which this program raised an error of the type named."""
        return cls(
            f"This program could not open the file, through a fault of its own ({error}); the file "
            "may be sound. Report it, and meanwhile hash a copy exported as MP4, JPEG or PNG."
        )


class InvalidPixels(NciihashError, ValueError):
    """The array is not uint8 (height, width, 3) or is empty: convert the picture to 8-bit RGB."""

    code = "invalid_pixels"


class SandboxUnavailable(NciihashError):
    """The process that decodes files could not start, so nothing was decoded.

    Hashing never falls back to this process by itself; pass `--no-sandbox` to accept that.
    """

    code = "sandbox_unavailable"


class InvalidSignal(NciihashError, ValueError):
    """The value is not a hash of that type: check its length and its alphabet."""

    code = "invalid_signal"


class ResultsInvalid(NciihashError):
    """The file for the results holds something else already: name another one."""

    code = "results_invalid"


class SourceInvalid(NciihashError):
    """What is to be scanned is not there, or not of one kind: name a folder of one kind of file."""

    code = "source_invalid"


class IndexFileInvalid(NciihashError):
    """The index file is truncated, damaged, foreign or newer: build it again from its source."""

    code = "index_file_invalid"


class BankError(NciihashError):
    """Base of what can go wrong with a bank on disk."""

    code = "bank_error"


class BankLocked(BankError):
    """Another process is using this bank: stop it, or use a bank file of your own."""

    code = "bank_locked"


class BankCorrupt(BankError):
    """The bank fails its checksum: move it away and follow the feed again from the beginning."""

    code = "bank_corrupt"


class VeilChanged(BankError):
    """The veiled list shows another part of each hash than this bank has: follow into a new one."""

    code = "veil_changed"


class EngineUnavailable(NciihashError):
    """The machines that were to scan are not there: start them, or scan on this one."""

    code = "engine_unavailable"


class QueueFull(NciihashError):
    """Too many verdicts wait: see why the clearinghouse does not take them, then add again."""

    code = "queue_full"


class QueueInvalid(NciihashError):
    """The queue is damaged, foreign or newer: move it away, or name another file."""

    code = "queue_invalid"


class ExtraMissing(NciihashError):
    """Packages that this needs are not installed: the message names the command that does it."""

    code = "extra_missing"


class ServiceError(NciihashError):
    """Base of what can go wrong between here and a clearinghouse.

    `uncertain` says that a write may have been carried out although no usable answer arrived.
    """

    code = "service_error"
    uncertain: bool = False

    @property
    def passing(self) -> bool:
        """Tell whether the same request may be answered later."""
        return False


class InvalidRequest(ServiceError, ValueError):
    """Nothing was sent, since the address, the key or a value cannot be right: correct it."""

    code = "invalid_request"


class PartlySent(ServiceError):
    """The first requests were answered and a later one was not: what was sent is in the case.

    `receipt`: the case and the files that are known to be in it. The last of them may lack hashes.
    The error that ended it is the cause of this one.
    """

    code = "partly_sent"
    uncertain = True

    def __init__(self, receipt: object) -> None:
        """Take the receipt so far."""
        super().__init__(
            "The connection failed before everything was sent. What was sent is in the case; send "
            "the rest again."
        )
        self.receipt = receipt

    @property
    def passing(self) -> bool:
        """Whether the cause may pass."""
        return isinstance(self.__cause__, ServiceError) and self.__cause__.passing


class ServiceUnreachable(ServiceError):
    """No connection to the clearinghouse: check the address and the network, then try again."""

    code = "service_unreachable"

    @property
    def passing(self) -> bool:
        """Say yes."""
        return True


class ProtocolError(ServiceError):
    """The answer is not one that this version understands: check the address and the versions."""

    code = "protocol_error"


class ServiceRefused(ServiceError):
    """The clearinghouse answered with a problem document (RFC 9457).

    `status` is the HTTP status; `problem` its stable code; `retry_after` the seconds to wait,
    where the service named them. `work` is the proof of work that it asks for, as it was sent.
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
    def passing(self) -> bool:
        """Tell whether the service is only busy or out of order."""
        return self.status == 429 or self.status >= 500


class CursorExpired(ServiceRefused):
    """The place in the feed is gone: fetch the feed from its beginning into a new bank."""

    code = "cursor_expired"


_NO_LOCKS: Final = (
    "The file system there keeps no locks, as some network folders do not: name a folder on a "
    "local disk."
)
_ADVICE: Final = {
    getattr(errno, name): advice
    for names, advice in {
        "ENOSPC EDQUOT": "Free some space there, or name another place, and run it again.",
        "ENOLCK ENOTSUP EOPNOTSUPP ENOSYS": _NO_LOCKS,
        "EROFS": "Name a place that can be written to.",
        "EACCES EPERM": "Check the permissions of it and of the folders above it.",
        "EMFILE ENFILE": "Raise the limit of open files (`ulimit -n`), or use fewer `--jobs`.",
        "ENOENT ENOTDIR": "Check the path.",
        "ELOOP ENAMETOOLONG": "Give its own path, or a shorter one.",
        "EISDIR": "Name a file.",
        "EFBIG": "The file system, or a limit (`ulimit -f`), takes no larger file: name another "
        "place.",
        "EIO ESTALE": "The disk, or the connection to it, may be failing: copy what matters "
        "elsewhere.",
        "ENOMEM": "Free some memory and run it again.",
        "ETXTBSY EBUSY": "Another program is using it: try again when that has ended.",
    }.items()
    for name in names.split()
    if hasattr(errno, name)  # systems differ
}


def explained(error: OSError) -> str:
    """Say in one or two sentences what the system refused, where, and what to do."""
    told = error.strerror or str(error) or "A file operation failed"
    where = "" if error.filename is None else f": {_printable(error.filename)}"
    advice = _ADVICE.get(error.errno or 0, "")
    return f"{told.rstrip('.')}{where}. {advice}".rstrip()


def _printable(path: object) -> str:
    """Write a path so that nothing in it can command a terminal; a file without a name is none."""
    text = fsdecode(path) if isinstance(path, str | bytes) else str(path)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
