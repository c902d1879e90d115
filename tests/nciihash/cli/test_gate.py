"""The command `gate`, up to the start of the service."""

import importlib.util
import signal
import subprocess
import sys
from subprocess import PIPE

import httpx
import pytest

from nciihash.gate.config import load
from nciihash.gate.config.keys import render_default
from nciihash.gate.rehearsal import TRIAL, rehearsal_config
from support.paths import ROOT

CONFIG = """
server = "https://clearinghouse.example"
data = "data"
key_file = "key"
[clamd]
listen = "127.0.0.1:3310"
review_as = "clear"
"""


@pytest.fixture
def path(tmp_path):
    """Return the path of a configuration, next to a file with a key."""
    (tmp_path / "key").write_text("secret-key")
    (tmp_path / "key").chmod(0o600)
    return tmp_path / "gate.toml"


def test_print_config_prints_a_file_that_can_be_used(run, path):
    result = run("gate", "--print-config")
    assert (result.code, result.err) == (0, "")
    assert result.out == render_default()
    path.write_text(result.out.replace('#key_file = "/etc/nciihash/gate.key"', 'key_file = "key"'))
    assert load(path, {}).key == "secret-key"
    assert run("gate", "--check", "--config", path).code == 0


def test_check_says_what_the_configuration_does_and_nothing_secret(run, path):
    path.write_text(CONFIG)
    result = run("gate", "--config", path, "--check")
    assert (result.code, result.err) == (0, "")
    text = " ".join(result.out.split())
    assert "clamd on 127.0.0.1:3310: checks every upload at the level windows" in text
    assert "Reviews are answered as clear." in text
    assert "secret-key" not in text
    assert not (path.parent / "data").exists()


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_a_fault_is_named(run, path, more):
    path.write_text(CONFIG.replace('review_as = "clear"', ""))
    result = run("gate", "--config", path, *more)
    assert (result.code, result.out) == (2, "")
    assert "gate.toml cannot be used. clamd.review_as: It is required." in result.err


@pytest.mark.parametrize("more", [[], ["--check"]])
def test_all_faults_are_named_on_a_line_each(run, path, more):
    path.write_text(CONFIG.replace("review_as", "rewiew_as"))
    result = run("gate", "--config", path, *more)
    assert (result.code, result.out) == (2, "")
    unknown, missing, summary = result.err.splitlines()
    assert unknown == "clamd.rewiew_as: There is no such key. Did you mean clamd.review_as?"
    assert missing.startswith("clamd.review_as: It is required.")
    assert summary.endswith("gate.toml cannot be used: it has 2 faults.")


def test_a_file_that_cannot_be_read(run, path):
    result = run("gate", "--config", path)
    assert (result.code, result.out) == (2, "")
    assert "No such file or directory" in result.err


def test_without_a_file_it_says_how_to_start(run):
    for arguments in ([], ["--check"]):
        result = run("gate", *arguments)
        assert (result.code, result.out) == (2, "")
        assert "--config" in result.err


@pytest.mark.parametrize("option", ["--check", "--sandbox", "--print-config"])
def test_options_before_a_command_are_refused(run, path, option):
    """They would be ignored, and the command would use another configuration."""
    for arguments in (["--config", path], [option]):
        result = run("gate", *arguments, "report", "--month", "2026-11")
        assert (result.code, result.out) == (2, "")
        assert "after the command" in result.err


def test_help(run):
    result = run("gate", "--help")
    assert result.code == 0
    for name in ("--config", "--print-config", "--check", "--sandbox", "decide", "except"):
        assert name in result.out


def test_without_the_packages_of_the_extra_it_says_how_to_install_them(run, path, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "nciihash.cli.gate.find_spec", lambda name: None if name == "uvicorn" else found(name)
    )
    path.write_text(CONFIG)
    result = run("gate", "--config", path)
    assert result.code == 1
    assert 'pip install "nciihash[gate]"' in result.err


def test_a_trial_blocks_a_test_picture(path):
    """As docs/gate.md shows, but at a free port; Ctrl-C ends it."""
    path.write_text(
        'server = "http://127.0.0.1:9"\ndata = "data"\n[http]\nlisten = "127.0.0.1:0"\n'
    )
    command = [sys.executable, "-m", "nciihash", "gate", "--sandbox", "--config", str(path)]
    with subprocess.Popen(command, stdout=PIPE, stderr=PIPE, text=True) as process:
        try:
            url = process.stdout.readline().split()[-1]
            block = (ROOT / "docs/gate/block.jpg").read_bytes()
            found = httpx.post(f"{url}/check?answer=status", content=block, timeout=60)
        finally:
            process.send_signal(signal.SIGINT)
        _, messages = process.communicate(timeout=60)
    assert (found.status_code, process.returncode) == (451, 0)
    assert found.json()["matches"][0]["item"] == "test picture: block"
    assert "This is a trial with test pictures: block.jpg is blocked" in messages
    assert not (path.parent / "data").exists()


def test_the_configuration_of_a_trial_serves_its_commands(tmp_path):
    trial = rehearsal_config(None, tmp_path)
    assert load(tmp_path / TRIAL, {}, with_key=False).data == trial.data == tmp_path / "data"
