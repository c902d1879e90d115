"""Run a gate: follow the feed, serve all dialects, and end without losing an answer."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from typing import Final

from nciihash.errors import NciihashError, describe_os_error
from nciihash.gate import logs, process
from nciihash.gate.bank import FollowedBank, GateBank
from nciihash.gate.config import GateConfig
from nciihash.gate.decisions import DECISIONS_FILE, DecisionStore
from nciihash.gate.decisions.verdicts import VERDICTS_FILE, VerdictReporter
from nciihash.gate.gate import Gate
from nciihash.gate.listeners import CLOSE_SECONDS, Listener, listen
from nciihash.gate.metrics import Metrics
from nciihash.gate.pool import HashPool
from nciihash.gate.reloading import reloaded
from nciihash.gate.upkeep import Upkeep
from nciihash.sdk.follower import Follower, VeiledFollower
from nciihash.sdk.verdict_queue import VerdictQueue, VerdictSender

BANK_FILE: Final = "bank"  # in the gate's folder
_FILES_RESERVED: Final = 256  # for the bank, the databases, child processes and everything else
_log: Final = logging.getLogger("nciihash.gate")

Ready = Callable[[GateConfig, Sequence[Listener]], None]


def serve(load: Callable[[], GateConfig], *, ready: Ready, bank: GateBank | None = None) -> None:
    """Run a gate until SIGTERM or SIGINT.

    SIGTERM and SIGINT end it once all requests in progress are answered, at the latest after
    `CLOSE_SECONDS`; a second one ends it at once. SIGHUP loads the configuration again.

    Args:
        load: returns the configuration; called again for SIGHUP.
        ready: called with the configuration and the listeners once uploads are accepted.
        bank: what uploads are looked up in; None for one that follows the feed. With a bank, no
            verdict is sent.

    Raises:
        NciihashError: the configuration, a file or an address cannot be used; the message says what
            to do.
        OSError: a file of the gate cannot be opened.
    """
    config = load()
    logs.configure()
    files = process.prepare()
    _check_files(config, files)
    asyncio.run(_serve(config, load=load, ready=ready, bank=bank))


async def _serve(
    config: GateConfig, *, load: Callable[[], GateConfig], ready: Ready, bank: GateBank | None
) -> None:
    async with AsyncExitStack() as opened:
        gate, upkeep = await _open(config, opened, bank)
        listeners = await listen(gate)
        try:
            signals = _Signals(lambda: _reload(gate, load))
            with signals:
                running = asyncio.create_task(upkeep.run(), name="upkeep")
                ready(config, listeners)
                _log.info("The gate accepts uploads.")
                await signals.stop.wait()
                await _drain(listeners, signals.hurry)
                running.cancel()
                await asyncio.wait((running,))
        finally:
            for listener in listeners:
                listener.server.close()
        await gate.pool.close()
        gate.confirmations.close()
        await asyncio.to_thread(upkeep.last)
        _log.info("The gate has ended.")


async def _open(
    config: GateConfig, opened: AsyncExitStack, bank: GateBank | None
) -> tuple[Gate, Upkeep]:
    """Open what a gate consists of, to be closed with `opened`."""
    config.data.mkdir(mode=0o700, parents=True, exist_ok=True)
    decisions = opened.enter_context(
        DecisionStore(config.data / DECISIONS_FILE, reference_days=config.reference_days)
    )
    queue = reporter = None
    if bank is None:
        queue = opened.enter_context(VerdictQueue(config.data / VERDICTS_FILE))
        reporter = VerdictReporter(decisions, queue)
        await opened.enter_async_context(VerdictSender(config.server, config.key, queue))
        follower_type = VeiledFollower if config.veiled else Follower
        follower = follower_type(config.server, config.key, config.data / BANK_FILE)
        bank = FollowedBank(await opened.enter_async_context(follower))
    pool = HashPool(config.limits, jobs=config.jobs, video_jobs=config.video_jobs)
    await opened.enter_async_context(pool)
    gate = Gate(
        config,
        bank=bank,
        pool=pool,
        decisions=decisions,
        metrics=Metrics(),
    )
    return gate, Upkeep(gate, reporter)


async def _drain(listeners: Sequence[Listener], hurry: asyncio.Event) -> None:
    """Accept nothing more, and wait for requests in progress, but not once `hurry` is set."""
    _log.info("The gate ends once the requests in progress are answered.")
    for listener in listeners:
        listener.server.close()
    waiting = [asyncio.create_task(listener.server.wait_closed()) for listener in listeners]
    hurrying = asyncio.create_task(hurry.wait())
    closed = asyncio.gather(*waiting, return_exceptions=True)
    # servers keep to their own limit; this one is for a server that does not
    await asyncio.wait(
        (closed, hurrying), timeout=CLOSE_SECONDS + 5, return_when=asyncio.FIRST_COMPLETED
    )
    hurrying.cancel()
    closed.cancel()


class _Signals:
    """Handlers of this process's signals, as a context manager.

    Args:
        reload: called for SIGHUP.

    Attributes:
        stop: set by the first SIGTERM or SIGINT.
        hurry: set by the second one.
    """

    def __init__(self, reload: Callable[[], None]) -> None:
        self.stop = asyncio.Event()
        self.hurry = asyncio.Event()
        self._reload = reload
        self._loop = asyncio.get_running_loop()

    def __enter__(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._end)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)

    def __exit__(self, *_: object) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.remove_signal_handler(number)

    def _end(self) -> None:
        (self.hurry if self.stop.is_set() else self.stop).set()


def _reload(gate: Gate, load: Callable[[], GateConfig]) -> None:
    """Load the configuration again, and apply what can be; keep the old one if it is invalid."""
    try:
        changed = load()
    except NciihashError as error:
        _log.error("The configuration was not reloaded: %s", error)
        return
    except OSError as error:
        _log.error("The configuration was not reloaded: %s", describe_os_error(error))
        return
    config, waiting = reloaded(gate.config, changed)
    gate.reload(config)
    _log.info("The configuration was reloaded.")
    if waiting:
        _log.warning("These settings need a restart: %s.", ", ".join(waiting))


def _check_files(config: GateConfig, files: int) -> None:
    """Warn if fewer connections can be open than the configuration allows."""
    if (wanted := config.limits.connections * len(config.dialects)) > files - _FILES_RESERVED:
        _log.warning(
            "The configuration allows %d connections, and this process may have only %d files "
            "open. Raise its limit (LimitNOFILE, ulimit -n), or lower `connections`.",
            wanted,
            files,
        )
