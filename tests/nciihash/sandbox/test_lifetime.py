import os
import signal
import threading
import time
from pathlib import Path

import pytest

from nciihash.hashing import hasher
from nciihash.sandbox import Sandbox
from support.sandboxes import gone, pid_of, python


def test_the_parent_imports_no_decoder(picture):
    code = (
        "import sys, nciihash.sandbox as s; s.hash_file(sys.argv[1]);"
        "print([m for m in ('PIL', 'cv2', 'av', 'pi_heif', 'simplejpeg') if m in sys.modules])"
    )
    with python(code, picture) as process:
        assert process.communicate(timeout=60)[0] == "[]\n"
        assert process.returncode == 0


WAITING = """
import sys, time, threading
from nciihash.sandbox import parent as sandbox
sandbox.hash_file(sys.argv[1])
print(sandbox._shared._child.pid, flush=True)
try:
    time.sleep(600)
except KeyboardInterrupt:
    pass
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(picture, number):
    with python(WAITING, picture, start_new_session=True) as parent:
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        # to the whole process group, as a terminal does
        os.killpg(parent.pid, number)
        parent.wait(30)
        assert gone(child)


BUSY = """
import os, signal, sys, threading
from nciihash.sandbox import Sandbox
box = Sandbox()
box.hash_file(sys.argv[1])
child = box._child.pid
os.kill(child, signal.SIGSTOP)
print(child, flush=True)
try:
    box.hash_file(sys.argv[1])
except KeyboardInterrupt:
    os.kill(os.getpid(), 0)
    print(box._child, box.hash_file(sys.argv[1]).media, flush=True)
"""


def test_ctrl_c_in_the_middle_of_a_file_ends_the_child(picture):
    with python(BUSY, picture) as parent:
        child = int(parent.stdout.readline())
        time.sleep(0.5)
        os.kill(parent.pid, signal.SIGINT)
        assert parent.stdout.readline() == "None image\n"
        assert parent.wait(30) == 0
        assert gone(child)


def test_a_child_outlives_the_thread_that_started_it(picture):
    box = Sandbox()
    thread = threading.Thread(target=box.hash_file, args=(picture,))
    thread.start()
    thread.join()
    child = pid_of(box)
    time.sleep(0.2)
    box.hash_file(picture)
    assert pid_of(box) == child
    box.close()
    assert gone(child)


FORKED = """
import os, sys
from nciihash.sandbox import Sandbox
box = Sandbox()
mine = box.hash_file(sys.argv[1])
child = box._child.pid
if (fork := os.fork()) == 0:
    same = box.hash_file(sys.argv[1]) == mine and box._child.pid != child
    box.close()
    os._exit(0 if same else 1)
status = os.waitpid(fork, 0)[1]
print(status, box.hash_file(sys.argv[1]) == mine, box._child.pid == child)
box.close()
"""


def test_a_fork_starts_a_child_of_its_own(picture):
    with python(FORKED, picture) as process:
        assert process.communicate(timeout=60)[0] == "0 True True\n"


def test_a_closed_sandbox_starts_again(picture):
    box = Sandbox()
    box.close()
    for _ in range(2):
        assert box.hash_file(picture) == hasher.hash_file(picture)
        box.close()
