"""The architecture: which modules may import which, and what an import loads."""

import subprocess
import sys
from functools import cache

import pytest

from support.paths import ROOT

DECODERS = {"PIL", "cv2", "av", "imagehash", "pi_heif", "simplejpeg"}
PURE = ["errors", "signals", "pdq", "hamming", "search.index", "feed", "wire"]


@cache
def loaded_by(statement):
    """Run a statement in a new interpreter; return the names of all modules loaded then."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return frozenset(process.stdout.split())


def test_import_contracts_are_kept():
    process = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    assert " 0 broken" in process.stdout


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_load_no_decoder(module):
    assert not DECODERS & loaded_by(f"import nciihash.{module}")


@pytest.mark.parametrize("module", [m for m in PURE if m != "wire"])
def test_the_core_loads_only_numpy_and_the_standard_library(module):
    tops = {name.partition(".")[0] for name in loaded_by(f"import nciihash.{module}")}
    bare = {name.partition(".")[0] for name in loaded_by("pass")}
    foreign = tops - bare - set(sys.stdlib_module_names) - {"nciihash", "numpy"}
    # names with an underscore: internals of Cython and compiled modules
    assert not {name for name in foreign if not name.startswith("_")}


def test_importing_the_package_loads_no_modules():
    loaded = loaded_by("import nciihash")
    assert "numpy" not in loaded
    assert {name for name in loaded if name.startswith("nciihash")} == {
        "nciihash",
        "nciihash._lazy",
    }


@pytest.mark.parametrize(
    ("name", "decodes"),
    [("Index", False), ("Signal", False), ("SignalType", False), ("hash_image", True)],
)
def test_a_public_name_loads_only_its_module(name, decodes):
    assert bool(DECODERS & loaded_by(f"from nciihash import {name}")) is decodes


def test_the_command_line_starts_without_expensive_imports():
    assert not {"numpy", "httpx", "asyncio", *DECODERS} & loaded_by("import nciihash.cli.app")


def test_every_public_name_exists():
    import nciihash

    for name in nciihash.__all__:
        assert getattr(nciihash, name) is not None
    assert set(nciihash.__all__) == set(dir(nciihash))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nciihash.nonsense


def test_the_service_loads_no_decoder():
    assert not DECODERS & loaded_by("from clearinghouse import create_app, Settings")


def test_the_service_loads_no_code_for_devices_or_clients():
    loaded = loaded_by("from clearinghouse import create_app; import clearinghouse.cli.app")
    forbidden = ("media", "hashing", "sandbox", "client", "bank", "sdk", "scan", "cli")
    assert not {f"nciihash.{name}" for name in forbidden} & loaded


def test_the_service_cannot_import_an_installed_decoder():
    script = """
from clearinghouse.http.import_blocker import block_decoders
import PIL  # it is installed
import sys
for name in [n for n in sys.modules if n.partition(".")[0] == "PIL"]:
    del sys.modules[name]
block_decoders()
for name in sys.argv[1:]:
    try:
        __import__(name)
    except ImportError as error:
        assert "must not be loaded" in str(error), error
    else:
        raise SystemExit(f"{name} was loaded")
"""
    process = subprocess.run(
        [sys.executable, "-c", script, "PIL.Image", "nciihash.hashing.image", *sorted(DECODERS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert process.returncode == 0, process.stdout + process.stderr


def test_modules_have_specific_names():
    for package in ("nciihash", "clearinghouse"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            assert not {"utils", "common", "helpers", "manager"} & set(parts), path
