"""What a bank acknowledged outlives kill -9 at any moment."""

import itertools
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

from nciihash.bank import Bank
from support.banks import after, journal_of, number_of, page, state

# A child that nobody kills for long would write more, on a quick disk, than can be checked.
PAGES = 500


def follow(path: Path, acknowledge: int, prepare: Callable[[], None]) -> int:
    """Append page after page in a child process, naming each that is done; give its pid."""
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


def acknowledged(
    path: Path,
    *,
    patience: int = 0,
    meanwhile: Callable[[int], None] = lambda pid: None,
    prepare: Callable[[], None] = lambda: None,
) -> int:
    """Let a child follow until it is killed; give the last page that it acknowledged, or -1.

    Wait for `patience` acknowledgements before calling `meanwhile`, which may kill it.
    """
    reading, writing = os.pipe()
    pid = follow(path, writing, prepare)
    os.close(writing)
    said = b""
    while len(said) < 4 * patience and (part := os.read(reading, 4)):
        said += part
    meanwhile(pid)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), "the child failed by itself"
    assert os.WTERMSIG(status) == signal.SIGKILL
    while part := os.read(reading, 1 << 16):
        said += part
    os.close(reading)
    return int.from_bytes(said[-4:], "big") if said else -1


def check_after_crash(path: Path, known: int) -> int:
    """Open the bank, and check that it holds what was acknowledged and at most one page more."""
    with Bank.read(path) as beside:
        assert state(beside) == after(number_of(beside))
        seen = number_of(beside)
    with Bank.open(path) as bank:
        assert number_of(bank) in {known, known + 1}
        assert number_of(bank) == seen
        assert state(bank) == after(number_of(bank))
        assert not list(path.parent.glob(".*"))
        return number_of(bank)


def test_kill_9_at_random_moments_loses_and_invents_nothing(path, small_journal):
    draw = random.Random(9)
    Bank.open(path).close()
    at = 0

    def kill(pid: int) -> None:
        time.sleep(draw.random() * 0.02)
        os.kill(pid, signal.SIGKILL)

    for _ in range(40):
        known = acknowledged(path, patience=draw.randrange(2, 5), meanwhile=kill)
        assert known > at
        at = check_after_crash(path, known)


def test_kill_9_around_every_call_that_changes_the_disk_is_harmless(path, small_journal):
    def dying(at: int, *, half: bool) -> Callable[[], None]:
        def prepare() -> None:
            left = itertools.count(at, -1)

            def around(call: Callable) -> Callable:
                def counted(*args):
                    now = next(left)
                    if now == 0:
                        if half and call is os_pwrite:
                            call(args[0], args[1][: len(args[1]) // 2], args[2])
                        elif half:
                            call(*args)
                        os.kill(os.getpid(), signal.SIGKILL)
                    return call(*args)

                return counted

            os_pwrite = os.pwrite
            for call in ("pwrite", "fsync", "ftruncate", "open", "rename", "replace"):
                setattr(os, call, around(getattr(os, call)))

        return prepare

    at, kills = 0, 0
    for half in (False, True):
        Path.unlink(path, missing_ok=True)
        Path.unlink(journal_of(path), missing_ok=True)
        at = 0
        for place in range(45):
            known = acknowledged(path, prepare=dying(place, half=half))
            if known < 0 and not path.exists():
                continue  # died before there was a bank
            at = check_after_crash(path, max(at, known))
            kills += 1
        assert at > 40
    assert kills > 60


def test_readers_beside_a_running_follower_always_see_whole_pages(path, small_journal):
    Bank.open(path).close()
    seen: list[int] = []

    def look(pid: int) -> None:
        with Bank.read(path) as steady:
            for _ in range(150):
                steady.refresh()
                with Bank.read(path) as fresh:
                    for reader in (steady, fresh):
                        seen.append(number_of(reader))
                        assert state(reader) == after(number_of(reader))
        os.kill(pid, signal.SIGKILL)

    acknowledged(path, patience=2, meanwhile=look)
    assert seen == sorted(seen)
    assert seen[-1] > 0
