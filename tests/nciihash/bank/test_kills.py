"""What a bank acknowledged survives kill -9 at any moment."""

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from nciihash.bank import Bank
from support.banks import after, journal_of, number_of, page, state

# Limits what a child writes before it is killed, which on a fast disk would take long to check.
PAGES = 500


def follow(path: Path, acknowledge: int, prepare: Callable[[], None]) -> int:
    """Append pages in a child process, which acknowledges each; return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        prepare()
        bank = Bank.open(path)
        os.write(acknowledge, number_of(bank).to_bytes(4, "big"))
        for number in range(number_of(bank) + 1, number_of(bank) + 1 + PAGES):
            bank.append(page(number))
            os.write(acknowledge, number_of(bank).to_bytes(4, "big"))
        while True:
            signal.pause()  # until it is killed
    finally:
        os._exit(1)


def follow_until_killed(
    path: Path,
    *,
    wait_for: int = 0,
    kill: Callable[[int], None] = lambda pid: None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Follow in a child process until it is killed; return the last page it acknowledged, or -1.

    `kill` is called with its pid after `wait_for` acknowledgements. `prepare` runs in the child.
    """
    reading, writing = os.pipe()
    pid = follow(path, writing, prepare)
    os.close(writing)
    acknowledgements = b""
    while len(acknowledgements) < 4 * wait_for and (part := os.read(reading, 4)):
        acknowledgements += part
    kill(pid)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child failed"
    assert os.WTERMSIG(status) == signal.SIGKILL
    while part := os.read(reading, 1 << 16):
        acknowledgements += part
    os.close(reading)
    return int.from_bytes(acknowledgements[-4:], "big") if acknowledgements else -1


def check_after_crash(path: Path, acknowledged: int) -> int:
    """Assert that the bank has the acknowledged pages and at most one more; return the last."""
    with Bank.read(path) as reader:
        assert state(reader) == after(number_of(reader))
        seen = number_of(reader)
    with Bank.open(path) as bank:
        assert number_of(bank) in {acknowledged, acknowledged + 1}
        assert number_of(bank) == seen
        assert state(bank) == after(number_of(bank))
        assert not list(path.parent.glob(".*"))
        return number_of(bank)


def test_kill_9_at_random_moments_loses_and_invents_nothing(path, small_journal):
    rng = random.Random(9)
    Bank.open(path).close()
    last = 0

    def kill(pid: int) -> None:
        time.sleep(rng.random() * 0.02)
        os.kill(pid, signal.SIGKILL)

    for _ in range(40):
        acknowledged = follow_until_killed(path, wait_for=rng.randrange(2, 5), kill=kill)
        assert acknowledged > last
        last = check_after_crash(path, acknowledged)


def test_kill_9_around_every_call_that_changes_the_disk_is_harmless(path, small_journal):
    def kill_at(number: int, *, after_call: bool) -> Callable[[], None]:
        """Kill the child before call `number`, or after it (a write is then cut in half)."""

        def prepare() -> None:
            countdown = itertools.count(number, -1)

            def wrap(call: Callable) -> Callable:
                def wrapped(*args):
                    if next(countdown) == 0:
                        if after_call and call is os_pwrite:
                            call(args[0], args[1][: len(args[1]) // 2], args[2])
                        elif after_call:
                            call(*args)
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args)

                return wrapped

            os_pwrite = os.pwrite
            for call in ("pwrite", "fsync", "ftruncate", "open", "rename", "replace"):
                setattr(os, call, wrap(getattr(os, call)))

        return prepare

    kills = 0
    for after_call in (False, True):
        Path.unlink(path, missing_ok=True)
        Path.unlink(journal_of(path), missing_ok=True)
        last = 0
        for number in range(45):
            acknowledged = follow_until_killed(path, prepare=kill_at(number, after_call=after_call))
            if acknowledged < 0 and not path.exists():
                continue  # killed before the bank existed
            last = check_after_crash(path, max(last, acknowledged))
            kills += 1
        assert last > 40
    assert kills > 60


def test_readers_of_a_bank_being_written_always_see_whole_pages(path, small_journal):
    Bank.open(path).close()
    seen: list[int] = []

    def read_and_kill(pid: int) -> None:
        with Bank.read(path) as refreshed:
            for _ in range(150):
                refreshed.refresh()
                with Bank.read(path) as opened:
                    for reader in (refreshed, opened):
                        seen.append(number_of(reader))
                        assert state(reader) == after(number_of(reader))
        os.kill(pid, signal.SIGKILL)

    follow_until_killed(path, wait_for=2, kill=read_and_kill)
    assert seen == sorted(seen)
    assert seen[-1] > 0
