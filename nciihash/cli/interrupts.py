"""Defer Ctrl-C while a line is being written, so that programs read only whole lines."""

import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Defer the first Ctrl-C in the block until the block has ended.

    A second one takes effect at once, so that a block which waits for another process can be
    interrupted. Only Python's default handler, in the main thread, is replaced: a handler that the
    program has installed itself does not interrupt the block.

    Raises:
        KeyboardInterrupt: after the block, if one was deferred.
    """
    main = threading.current_thread() is threading.main_thread()
    previous = signal.getsignal(signal.SIGINT)
    if not main or previous is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def defer(_number: int, _frame: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, defer)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
    if interrupted:
        raise KeyboardInterrupt


def wait_writable(stream: TextIO) -> None:
    """Block until a stream accepts data; Ctrl-C takes effect here, before anything is written.

    A reader that has stopped reading fills the pipe, and the next write blocks on it.
    """
    if sys.platform == "win32":
        return  # its `select` takes only sockets
    try:
        select.select([], [stream], [])
    except (OSError, ValueError):  # no descriptor, or one that `select` does not take
        return
