"""Report decisions to the clearinghouse: from the stored decisions to the queue of verdicts.

The store and the queue are two files. A verdict is marked as queued after it is in the queue, so a
crash in between queues it twice, which has no effect, and never loses it.
"""

import logging
import threading
from dataclasses import dataclass, replace
from typing import Final

from nciihash.errors import NciihashError
from nciihash.gate.decisions.store import DecisionStore
from nciihash.gate.logs import sentence
from nciihash.sdk.verdict_queue import VerdictQueue
from nciihash.signals import Verdict

VERDICTS_FILE: Final = "verdicts"  # in the gate's folder
_AT_ONCE: Final = 1000  # verdicts of a transaction
_log: Final = logging.getLogger("nciihash.gate")


@dataclass(frozen=True, slots=True)
class ReporterState:
    """The state of a reporter, for monitoring.

    Attributes:
        queued: verdicts added to the queue since the start.
        waiting: verdicts in the queue when it was last used.
        failures: how often that failed.
        error: why it failed last, as a sentence; None if it works.
    """

    queued: int = 0
    waiting: int = 0
    failures: int = 0
    error: str | None = None


class VerdictReporter:
    """Adds the verdicts of stored decisions to the queue; usable from any thread.

    A `nciihash.VerdictSender` sends what is in the queue.

    Args:
        store: the decisions.
        queue: the queue for the clearinghouse.
    """

    def __init__(self, store: DecisionStore, queue: VerdictQueue) -> None:
        self._store = store
        self._queue = queue
        self._lock = threading.Lock()
        self._state = ReporterState()

    @property
    def state(self) -> ReporterState:
        """The state, for monitoring."""
        return self._state

    def report(self) -> bool:
        """Add all verdicts that are not in the queue yet; return whether that worked.

        Call it after each change of a decision, and from time to time: on a full disk, or if the
        queue is full or damaged, nothing is raised, and the verdicts are added by a later call. The
        first failure is logged.

        A `not_blocked` is held back while a `blocked` on the same signal is in the queue and would
        be replaced by it: the clearinghouse asks its operator about overturned blocks only if it
        has received the block.
        """
        with self._lock:
            try:
                while queued := self._queue_some():
                    self._state = replace(self._state, queued=self._state.queued + queued)
                self._state = replace(self._state, waiting=len(self._queue))
            except (OSError, NciihashError) as error:
                message = sentence(error)
                if self._state.error is None:
                    _log.warning("Verdicts are not being reported: %s", message)
                failures = self._state.failures + 1
                self._state = replace(self._state, failures=failures, error=message)
                return False
            if self._state.error is not None:
                _log.warning("Verdicts are being reported again.")
                self._state = replace(self._state, error=None)
            return True

    def _queue_some(self) -> int:
        """Add some verdicts to the queue; return how many."""
        with self._store.unqueued_verdicts(_AT_ONCE) as verdicts:
            overturned = [id for id, each in verdicts.items() if each is Verdict.NOT_BLOCKED]
            for id, waiting in self._queue.waiting(overturned).items():
                if waiting is Verdict.BLOCKED:
                    del verdicts[id]
            if verdicts:
                self._queue.add(verdicts)
            return len(verdicts)
