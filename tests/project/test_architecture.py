"""The walls of the house: who imports whom, and what importing loads."""

import subprocess
import sys
from functools import cache

import pytest

from support.paths import ROOT

DECODERS = {"PIL", "cv2", "av", "imagehash", "pi_heif", "simplejpeg"}
PURE = ["errors", "signals", "pdq", "hamming", "search.index", "feed", "wire"]


@cache
def loaded_by(statement):
    """Run a statement in a fresh interpreter, and give the names of all modules then loaded."""
    script = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    return frozenset(done.stdout.split())


def test_import_contracts_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_load_no_decoder(module):
    assert not DECODERS & loaded_by(f"import nciihash.{module}")


@pytest.mark.parametrize("module", [m for m in PURE if m != "wire"])
def test_the_core_loads_numpy_and_the_standard_library_alone(module):
    tops = {name.partition(".")[0] for name in loaded_by(f"import nciihash.{module}")}
    bare = {name.partition(".")[0] for name in loaded_by("pass")}
    foreign = tops - bare - set(sys.stdlib_module_names) - {"nciihash", "numpy"}
    # Cython's and compiled modules' bookkeeping
    assert not {name for name in foreign if not name.startswith("_")}


def test_the_package_itself_loads_nothing_until_it_is_asked():
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
def test_names_of_the_package_load_their_own_module_alone(name, decodes):
    assert bool(DECODERS & loaded_by(f"from nciihash import {name}")) is decodes


def test_the_command_line_starts_without_what_most_commands_need_not():
    assert not {"numpy", "httpx", "asyncio", *DECODERS} & loaded_by("import nciihash.cli.app")


def test_every_public_name_is_there():
    import nciihash

    for name in nciihash.__all__:
        assert getattr(nciihash, name) is not None
    assert set(nciihash.__all__) == set(dir(nciihash))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nciihash.nonsense


def test_the_service_loads_no_decoder():
    assert not DECODERS & loaded_by("from clearinghouse import create_app, Settings")


def test_the_service_loads_nothing_of_the_device_or_the_clients():
    loaded = loaded_by("from clearinghouse import create_app; import clearinghouse.cli.app")
    forbidden = ("media", "hashing", "sandbox", "client", "bank", "sdk", "scan", "cli")
    assert not {f"nciihash.{name}" for name in forbidden} & loaded


def test_a_decoder_is_refused_in_a_serving_process_even_where_it_is_installed():
    script = """
from clearinghouse.http.import_blocker import block_decoders
import PIL  # it is there
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
    done = subprocess.run(
        [sys.executable, "-c", script, "PIL.Image", "nciihash.hashing.image", *sorted(DECODERS)],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_modules_are_named_after_what_they_hold():
    for package in ("nciihash", "clearinghouse"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            assert not {"utils", "common", "helpers", "manager"} & set(parts), path
