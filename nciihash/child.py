"""The sandbox's child: confine this process, then hash what the parent names, file by file.

Started by `nciihash.sandbox`; it reads requests from standard input and answers on what was its
standard output. It ends when the parent does.
"""

import contextlib
import os
import select
import signal
import threading
from typing import Any

import numpy as np

from nciihash import confinement, errors, hasher, pdq
from nciihash.limits import Limits
from nciihash.pipe import receive, send
from nciihash.signals import Hashed, SignalType


def serve(settings: dict[str, Any]) -> None:
    """Confine this process and answer requests until standard input closes.

    Args:
        settings: the fields of `nciihash.limits.Limits`.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limits = Limits(**settings)
    answers = os.dup(1)
    os.dup2(2, 1)  # whatever a library prints must not be taken for an answer
    walls = ["process"]
    # Decoders have loaded their libraries by now; a first hash wakes those that load them late.
    pdq.analyse(np.zeros((8, 8, 3), np.uint8))
    if confinement.leave_network():
        walls.append("network-namespace")
    walls += confinement.limit(limits.memory)
    if confinement.filter_calls():
        walls.append("system-call-filter")
    threading.Thread(target=_end_with_parent, daemon=True).start()
    send(answers, {"ready": walls})
    with contextlib.suppress(EOFError):
        while True:
            request = receive(0)
            confinement.limit_cpu(limits.seconds)
            send(answers, _answer(request, limits))


def _end_with_parent() -> None:
    """End this process when the parent closes the pipe, even in the middle of a file.

    The system's own signal for that (PR_SET_PDEATHSIG) comes when the *thread* that started the
    child ends, which may be long before its process does.
    """
    poll = select.poll()
    poll.register(0, 0)  # no events asked for: only the hang-up is told
    poll.poll()
    os._exit(0)


def _answer(request: dict[str, Any], limits: Limits) -> dict[str, Any]:
    try:
        item = hasher.hash_file(
            request["path"],
            variants=request["variants"],
            signals=[SignalType(type) for type in request["signals"]],
            limits=limits,
        )
    except errors.FileRefused as error:
        return {"refused": error.code, "message": str(error)}
    except MemoryError:
        return {
            "refused": errors.TooLarge.code,
            "message": "Hashing this picture takes more memory than is allowed. "
            "Save a smaller copy and hash that: its hash is nearly the same.",
        }
    except ValueError as error:
        return {"invalid": str(error)}
    return {
        "item": {"media": item.media, "hashes": [_entry(hashed) for hashed in item.hashes]},
    }


def _entry(hashed: Hashed) -> dict[str, Any]:
    return {
        "type": hashed.signal.type,
        "value": hashed.signal.hex,
        "quality": hashed.quality,
        "variant": hashed.variant,
        "tied": hashed.tied,
    }
