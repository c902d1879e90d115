"""Hold Ctrl-C off while a line is being written, so that programs read whole lines only."""

import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def held_off() -> Iterator[None]:
    """Let a first Ctrl-C in the block take effect when the block has ended.

    A second one takes effect at once, so that a block which waits for somebody else can be ended.
    Only Python's own handler is held off, in the main thread: one that a program has put in its
    place does not break a block off.

    Raises:
        KeyboardInterrupt: after the block, if it was held off.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT)
    if not main or before is not signal.default_int_handler:
        yield
        return
    held = False

    def hold(_number: int, _frame: object) -> None:
        nonlocal held
        held = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, hold)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if held:
        raise KeyboardInterrupt


def wait_writable(stream: TextIO) -> None:
    """Wait, if need be, until a stream takes something; Ctrl-C here loses nothing.

    A reader that has stopped reading fills the pipe, and the next write waits for it.
    """
    if sys.platform == "win32":
        return  # which can wait for sockets alone
    try:
        select.select([], [stream], [])
    except (OSError, ValueError):  # no descriptor, or one that `select` does not take
        return
