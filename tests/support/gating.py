"""A real gate in the test's event loop: real sandbox, a fixed bank, decisions in a folder."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path

from nciihash.gate.bank import BankState, StaticBank
from nciihash.gate.config import Address, DialectConfig, GateConfig, UploadLimits
from nciihash.gate.decisions import DecisionStore
from nciihash.gate.gate import Gate
from nciihash.gate.metrics import Metrics
from nciihash.gate.outcome import Dialect
from nciihash.gate.policy import Action, Policy
from nciihash.gate.pool import HashPool
from nciihash.signals import Item, Level


def dialect_config(**changes) -> DialectConfig:
    """Return the configuration of a dialect on any free port of this machine."""
    policy = Policy(review_as=Action.BLOCK)
    return replace(DialectConfig(Address("127.0.0.1", 0), policy, level=Level.WINDOWS), **changes)


def gate_config(folder: Path, dialects: Mapping[Dialect, DialectConfig] | None = None, **changes):
    """Return the configuration of a gate; by default all dialects are switched on."""
    config = GateConfig(
        server="http://127.0.0.1:9",
        data=folder,
        key="",
        dialects=dialects or {dialect: dialect_config() for dialect in Dialect},
        jobs=1,
    )
    return replace(config, **changes)


class SwitchableBank:
    """A fixed bank whose state a test changes.

    Attributes:
        changes: replace fields of its state.
        error: raised by look-ups; None for none.
        remote: whether look-ups count as questions to a clearinghouse.
    """

    def __init__(self, items: Mapping[str, Item]) -> None:
        self._bank = StaticBank(items)
        self.changes: dict[str, object] = {}
        self.error: Exception | None = None
        self.remote = False

    def look_up(self, items, level):
        """Look items up, or raise the error."""
        if self.error is not None:
            raise self.error
        return self._bank.look_up(items, level)

    def asks(self, item):
        """Whether the clearinghouse is asked."""
        return self.remote

    def entry(self, id):
        """Return a signal."""
        return self._bank.entry(id)

    def state(self) -> BankState:
        """Return the state with the changes."""
        return replace(self._bank.state(), **self.changes)


@cache
def started_pool(limits: UploadLimits, jobs: int | None, video_jobs: int) -> HashPool:
    """Return a pool that the tests of this process share: to start a child takes a second."""
    pool = HashPool(limits, jobs=jobs, video_jobs=video_jobs)
    asyncio.run(pool.start())
    return pool  # its children end with this process


@asynccontextmanager
async def open_gate(
    folder: Path, items: Mapping[str, Item], config: GateConfig | None = None
) -> AsyncIterator[Gate]:
    """Run a gate with a `SwitchableBank` of some items."""
    config = config or gate_config(folder)
    folder.mkdir(exist_ok=True)  # noqa: ASYNC240 - a test
    arguments = (config.limits, config.jobs, config.video_jobs)
    pool = await asyncio.to_thread(started_pool, *arguments)
    with DecisionStore(folder / "decisions") as decisions:
        yield Gate(
            config,
            bank=SwitchableBank(items),
            pool=copy(pool),  # so that a test may replace its methods
            decisions=decisions,
            metrics=Metrics(),
        )
