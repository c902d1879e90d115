"""The clearinghouse that the demo starts."""

import sys
import tempfile
from pathlib import Path

import pytest

from nciihash.cli.demo import local_service
from nciihash.cli.demo.local_service import LocalService
from nciihash.errors import ExtraMissing, ServiceUnreachable


@pytest.mark.parametrize("missing", ["fastapi", "sqlalchemy", "clearinghouse"])
def test_without_the_service_the_message_says_what_to_install(tmp_path, monkeypatch, missing):
    find_spec = local_service.find_spec
    monkeypatch.setattr(
        local_service, "find_spec", lambda name: None if name == missing else find_spec(name)
    )
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        LocalService(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_error_of_a_service_that_does_not_start_quotes_its_log(tmp_path, monkeypatch):
    monkeypatch.setattr(local_service, "_PROGRAM", (sys.executable, "-c", "raise SystemExit('so')"))
    with (
        pytest.raises(ServiceUnreachable, match="Its log ends with: so"),
        LocalService(tmp_path) as service,
    ):
        _ = service.address


def test_settings_of_a_real_service_have_no_effect(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("CLEARINGHOUSE_KEY_FILE", str(elsewhere))
    monkeypatch.setenv("CLEARINGHOUSE_DATABASE", f"sqlite:///{elsewhere}.sqlite3")
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with LocalService(folder) as service:
        assert service.address
    assert [path for path in tmp_path.iterdir() if path != folder] == []
