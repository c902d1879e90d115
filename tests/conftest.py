"""Configuration of all tests: profiles of hypothesis, slow modules, databases, sample files."""

import os
import signal
from pathlib import Path

# Before NumPy is loaded, here and in child processes: OpenBLAS threads wait for each other in busy
# loops, which makes them several times slower if other tests run at the same time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

from support.paths import ROOT, TESTS

pytest_plugins = ["support.postgres", "support.serving", "support.local", "support.command_line"]

# No deadlines: a busy machine is not a defect.
_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("brief", max_examples=10, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("quick", max_examples=40, deadline=None, suppress_health_check=_SLOW)
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=_SLOW)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))

# A shell's background jobs ignore SIGINT, and so would the processes that tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_SHARED = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of sample files next to the checkout; skips the test if there is none."""
    if not _SHARED.is_dir():
        pytest.skip("no sample files in ../shared/data")
    return _SHARED


# Modules whose tests of the service run on SQLite and PostgreSQL. For the others, such as those of
# the page and the clients, the database makes no difference.
_ON_BOTH = {
    *("clearinghouse/database/test_store.py", "clearinghouse/database/test_epoch.py"),
    "clearinghouse/database/test_migrations.py",
    *("clearinghouse/cases/test_lifecycle.py", "clearinghouse/platforms/test_platforms.py"),
    *("clearinghouse/cases/test_intake.py", "clearinghouse/platforms/test_stopncii.py"),
    "clearinghouse/platforms/test_stopncii_contributions.py",
    "clearinghouse/platforms/test_stopncii_order.py",
    *("clearinghouse/maintenance/test_key_rotation.py", "clearinghouse/maintenance/test_clock.py"),
    "clearinghouse/maintenance/test_purge.py",
    "clearinghouse/maintenance/test_purge_acknowledgements.py",
    *("clearinghouse/abuse/test_verdict_holds.py", "clearinghouse/abuse/test_overturned.py"),
    *("promises/test_service.py", "clearinghouse/abuse/test_quotas.py"),
    *("clearinghouse/cases/test_counts.py", "clearinghouse/platforms/test_release.py"),
}


# Modules that `make test-quick` skips: with browsers, with processes that are started or killed,
# and of complete examples. The other modules have quicker tests of the same code.
_SLOW_MODULES = (
    *("page/", "promises/", "project/test_examples.py", "project/test_inversion.py"),
    *("project/test_inversion_sets.py",),
    *("project/test_docs.py", "project/test_readme.py"),
    *("clearinghouse/database/test_epoch.py", "clearinghouse/http/test_connections.py"),
    *("clearinghouse/maintenance/test_key_rotation.py", "clearinghouse/test_workers.py"),
    "clearinghouse/maintenance/test_clock.py",
    *("clearinghouse/abuse/test_proof_of_work.py", "clearinghouse/platforms/test_federation.py"),
    *("nciihash/bank/test_kills.py", "nciihash/cli/demo/", "nciihash/cli/test_terminal.py"),
    *("nciihash/cli/test_submission.py", "nciihash/client/test_transport.py"),
    *("nciihash/hashing/test_video.py", "nciihash/search/test_kernel.py"),
    *("nciihash/sandbox/test_confinement.py", "nciihash/sandbox/test_lifetime.py"),
    *("nciihash/sandbox/test_parent.py", "nciihash/gate/test_pool.py"),
    "nciihash/gate/icap/test_clients.py",
    *("nciihash/sandbox/test_pool.py", "nciihash/sandbox/test_videos.py"),
    *("nciihash/sdk/test_follow_loop.py", "nciihash/sdk/test_veiled.py", "nciihash/test_tx.py"),
)


assert all((TESTS / name).exists() for name in (*_ON_BOTH, *_SLOW_MODULES))


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not load slow modules if no slow test is selected."""
    module = collection_path.relative_to(TESTS).as_posix() + "/" * collection_path.is_dir()
    return True if config.option.markexpr == "not slow" and _is_slow(module) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests: of slow modules, on PostgreSQL, or with sample files."""
    for item in items:
        callspec = getattr(item, "callspec", None)
        on_postgres = callspec is not None and callspec.params.get("database") == "postgres"
        samples = "shared_data" in getattr(item, "fixturenames", ())
        if on_postgres or samples or _is_slow(item.path.relative_to(TESTS).as_posix()):
            item.add_marker("slow")


def _is_slow(module: str) -> bool:
    return module.startswith(_SLOW_MODULES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with a database on both, in the modules of `_ON_BOTH`."""
    own = metafunc.definition.get_closest_marker("sqlite")
    module = metafunc.definition.path.relative_to(TESTS).as_posix()
    if module in _ON_BOTH and "database" in metafunc.fixturenames and not own:
        metafunc.parametrize("database", ["sqlite", "postgres"], indirect=True)
