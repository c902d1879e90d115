"""A progress bar for the proof of work that a clearinghouse asks for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from nciihash.cli.terminal import Terminal


@contextmanager
def computing(terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """Show a bar while puzzles are being solved, once the service asks for that.

    Yields a function that takes the number of puzzles solved, from 0, and their number in all.
    """
    with ExitStack() as bar:
        advances: list[Callable[[int], None]] = []

        def working(done: int, puzzles: int) -> None:
            if done:
                advances[-1](1)
                if done == puzzles:
                    bar.close()
                return
            bar.close()  # of the attempt before
            terminal.say("Many people are using the service, so that this takes a moment more.")
            advances.append(bar.enter_context(terminal.progress("Working", puzzles)))

        yield working
