import sys
import tempfile
from pathlib import Path

import pytest

from nciihash.cli.demo import local_service
from nciihash.cli.demo.local_service import LocalService
from nciihash.errors import ExtraMissing, ServiceUnreachable


@pytest.mark.parametrize("missing", ["fastapi", "sqlalchemy", "clearinghouse"])
def test_without_the_service_it_names_the_command(tmp_path, monkeypatch, missing):
    real = local_service.find_spec
    monkeypatch.setattr(
        local_service, "find_spec", lambda name: None if name == missing else real(name)
    )
    with pytest.raises(ExtraMissing, match=r'pip install "nciihash\[demo\]"'):
        LocalService(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_does_not_start_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(local_service, "_PROGRAM", (sys.executable, "-c", "raise SystemExit('so')"))
    with (
        pytest.raises(ServiceUnreachable, match="Its log ends with: so"),
        LocalService(tmp_path) as service,
    ):
        _ = service.address


def test_what_is_set_for_a_real_service_is_left_alone(tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    monkeypatch.setenv("CLEARINGHOUSE_KEY_FILE", str(elsewhere))
    monkeypatch.setenv("CLEARINGHOUSE_DATABASE", f"sqlite:///{elsewhere}.sqlite3")
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    with LocalService(folder) as service:
        assert service.address
    assert [path for path in tmp_path.iterdir() if path != folder] == []
