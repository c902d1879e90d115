"""The service's command line in a fork of a process that has loaded it.

Loading the service takes more than a second; a fork starts in a tenth of that.
"""

import multiprocessing
import os
import subprocess
import sys
import warnings
from contextlib import suppress

_PRELOADED = ["clearinghouse.cli.app", "clearinghouse.serve", "alembic.command"]


class ForkedCommand:
    """A running command, with the parts of the interface of `subprocess.Popen` that tests use.

    Args:
        words: the command and its options.
        environment: all of its environment variables. Those that the interpreter or the loader
            reads when it starts (`PYTHON...`, `LD_...`) have no effect.
        log: the file to which its standard error is appended.
    """

    def __init__(self, words, environment, log):
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        reader, writer = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_run, args=(words, environment, log, writer), daemon=True
        )
        self._process.start()
        writer.close()
        self.stdout = os.fdopen(os.dup(reader.fileno()), encoding="utf-8")
        reader.close()
        self.pid = self._process.pid

    def poll(self):
        """Return the exit status (minus the signal that ended it), or None while it runs."""
        return self._process.exitcode

    def send_signal(self, number):
        """Send a signal if the process still runs."""
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def wait(self, timeout=None):
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("clearinghouse", timeout)
        return self._process.exitcode


def _run(words, environment, log, writer):
    from clearinghouse.cli.app import main

    os.setsid()  # so that Ctrl-C reaches only the test
    os.environ.clear()
    os.environ.update(environment)
    os.dup2(writer.fileno(), sys.stdout.fileno())
    writer.close()
    with log.open("ab") as file:
        os.dup2(file.fileno(), sys.stderr.fileno())
    warnings.simplefilter("default")
    sys.argv = ["clearinghouse", *words]
    main()
