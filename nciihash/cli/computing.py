"""A progress bar for the proof of work that a clearinghouse asks for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from nciihash.cli.terminal import Terminal


@contextmanager
def computing(terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar while puzzles are being solved, if the service asks for any.

    Yields:
        A function that takes the number of puzzles solved so far, starting at 0, and their total.
    """
    with ExitStack() as bar:
        advances: list[Callable[[int], None]] = []

        def working(done: int, puzzles: int) -> None:
            if done:
                advances[-1](1)
                if done == puzzles:
                    bar.close()
                return
            bar.close()  # of the previous attempt
            terminal.say("Many people are using the service, so this takes a little longer.")
            advances.append(bar.enter_context(terminal.progress("Working", puzzles)))

        yield working
