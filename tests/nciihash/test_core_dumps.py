"""A crash writes no process memory to disk."""

import resource
import subprocess
import sys

import pytest

from support.paths import ROOT
from support.service_process import ServiceProcess


def test_core_dumps_and_tracing_are_forbidden():
    code = """
import ctypes, resource
from nciihash import core_dumps
libc = ctypes.CDLL(None)
print(libc.prctl(3, 0, 0, 0, 0))
core_dumps.forbid()
core_dumps.forbid_tracing()
print(resource.getrlimit(resource.RLIMIT_CORE), libc.prctl(3, 0, 0, 0, 0))
"""
    if sys.platform != "linux":
        pytest.skip("tracing is forbidden on Linux only")
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.splitlines()[-1] == "(0, 0) 0"


def test_the_service_writes_no_core_dump(tmp_path):
    with ServiceProcess(tmp_path) as service:
        assert resource.prlimit(service.process.pid, resource.RLIMIT_CORE) == (0, 0)


@pytest.mark.parametrize("program", ["nciihash", "clearinghouse"])
def test_the_command_lines_write_no_core_dump(program):
    code = f"""
import resource, sys
from {program}.cli import app
app.app = lambda: print(resource.getrlimit(resource.RLIMIT_CORE))
app.main()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout == "(0, 0)\n"


def test_the_deployment_examples_disable_core_dumps_and_swap():
    unit = (ROOT / "examples/deploy/clearinghouse.service").read_text().splitlines()
    assert {"LimitCORE=0", "MemorySwapMax=0"} <= set(unit)
    image = (ROOT / "examples/deploy/Dockerfile").read_text()
    assert "--ulimit core=0" in image
    assert "--memory 4g --memory-swap 4g" in image
