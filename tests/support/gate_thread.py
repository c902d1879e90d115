"""A gate that serves its dialects on real sockets, in a thread of the test's process."""

import asyncio
import threading
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

from nciihash.gate.bank import StaticBank
from nciihash.gate.config import Address, DialectConfig, GateConfig, UploadLimits
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.gate import Gate
from nciihash.gate.listeners import listen
from nciihash.gate.metrics import Metrics
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Policy
from nciihash.gate.pool import HashPool
from nciihash.sandbox import hash_file
from nciihash.signals import Level
from support.pictures import encode, textured

LOCAL = Address("127.0.0.1", 0)


def picture(seed, **options):
    """Return a JPEG of a drawn picture."""
    return encode(textured(seed), "JPEG", quality=90, **options)


class ChangeableBank(StaticBank):
    """A bank whose state and answers tests change.

    Attributes:
        changes: to its state.
        fails: what a lookup raises; None for nothing.
    """

    def __init__(self, items):
        super().__init__(items)
        self.changes = {}
        self.fails = None

    def look_up(self, items, level):
        if self.fails is not None:
            raise self.fails
        return super().look_up(items, level)

    def state(self):
        return replace(super().state(), **self.changes)


def bank_of(folder: Path, **files):
    """Return a bank of files, by the names of their items."""
    items = {}
    for name, data in files.items():
        path = folder / name
        path.write_bytes(data)
        items[name] = hash_file(path, variants="standard")
    return ChangeableBank(items)


def dialect_config(**changes):
    """Return the configuration of a dialect at a free port of this machine."""
    settings = {"listen": LOCAL, "policy": Policy(review_as=Action.CLEAR), "level": Level.FAST}
    return DialectConfig(**(settings | changes))


def gate_config(folder, dialects, **changes):
    """Return a configuration of these dialects, for one child process of each kind."""
    limits = {"limits": UploadLimits(memory=256 << 20)}
    return GateConfig(
        server="https://clearinghouse.invalid",
        data=folder,
        key="no-key",
        dialects=dialects,
        jobs=1,
        **(limits | changes),
    )


class GateThread:
    """A gate that runs in a thread of its own, as a context manager.

    Args:
        config: its configuration.
        bank: what it looks uploads up in.

    Attributes:
        gate: the gate. Its methods belong to the other thread: see `call`.
        urls: the address of each dialect.
    """

    def __init__(self, config: GateConfig, bank) -> None:
        self._config = config
        self._bank = bank
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._opened = AsyncExitStack()

    def __enter__(self):
        self._thread.start()
        self.run(self._open())
        return self

    def __exit__(self, *_):
        try:
            self.run(self._close())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    def call(self, function):
        """Call a function in the gate's thread, and return its result."""

        async def run():
            return function()

        return self.run(run())

    def change(self, dialect=Dialect.HTTP, **changes):
        """Change the settings of a dialect from the next upload on; `listen` has no effect."""
        dialects = {**self._config.dialects, dialect: dialect_config(**changes)}
        self.change_gate(dialects=dialects)

    def change_gate(self, **changes):
        """Change settings of the gate from the next upload on, or change them back."""
        config = replace(self._config, **changes)
        self.call(lambda: self.gate.reload(config))

    def run(self, work):
        """Run a coroutine in the gate's thread, and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    async def _open(self):
        config = self._config
        decisions = self._opened.enter_context(DecisionStore(config.data / "decisions"))
        pool = await self._opened.enter_async_context(
            HashPool(config.limits, jobs=config.jobs, video_jobs=config.video_jobs)
        )
        self.gate = Gate(config, bank=self._bank, pool=pool, decisions=decisions, metrics=Metrics())
        self._listeners = await listen(self.gate)
        self.urls = {
            dialect: listener.url for listener in self._listeners for dialect in listener.dialects
        }

    async def _close(self):
        for listener in self._listeners:
            listener.server.close()
        for listener in self._listeners:
            await listener.server.wait_closed()
        await self._opened.aclose()
