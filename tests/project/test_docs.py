"""The documentation: its code runs, its commands exist, its figures are the stored ones."""

import re
import shlex

import pytest
import typer

from benchmarks import evidence
from clearinghouse.cli import app as service_commands
from nciihash.bank import Bank
from nciihash.cli import app as commands
from nciihash.client import PlatformClient
from nciihash.sdk.follow_loop import follow
from support.local import random_item
from support.paths import ROOT
from support.pictures import scene

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))


def fenced(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)


def test_all_python_code_runs(local, tmp_path, monkeypatch, capsys):
    """The blocks of a page run in order, in a folder with an upload and a bank."""
    monkeypatch.chdir(tmp_path)
    scene(320, 240, seed=71).save("upload.jpg")
    local.open(random_item())
    with PlatformClient(local.address, local.platform()) as client, Bank.open("bank") as bank:
        follow(client, bank, once=True)
    ran = 0
    with PlatformClient(local.address, local.platform()) as client:
        for page in PAGES:
            names = {"client": client}
            for code in fenced(page, "python"):
                exec(compile(code, page.name, "exec"), names)
                ran += 1
    assert ran >= 4
    assert "[42] [6]" in capsys.readouterr().out


def parameters(command):
    return {option for each in command.params for option in each.opts + each.secondary_opts}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_and_option_exists(page):
    roots = {
        "nciihash": typer.main.get_command(commands.app),
        "clearinghouse": typer.main.get_command(service_commands.app),
    }
    for line in "".join(fenced(page, "sh")).splitlines():
        words = shlex.split(line, comments=True)
        if not words or words[0] not in roots:
            continue
        command = roots[words.pop(0)]
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or command.invoke_without_command, line
        known = parameters(command) | {"--help"}
        assert {word for word in words if word.startswith("--")} <= known, line


def test_the_contributing_page_defines_every_link_of_its_source():
    """The page includes the text of CONTRIBUTING.md, whose links are relative to another folder."""

    def links(path):
        return dict(re.findall(r"^\[(.+)\]: (\S+)$", path.read_text("utf-8"), re.M))

    source, page = links(ROOT / "CONTRIBUTING.md"), links(DOCS / "contributing.md")
    assert source.keys() == page.keys() != set()
    assert all((ROOT / target).is_file() for target in source.values())
    assert all((DOCS / target).is_file() for target in page.values())


def test_every_make_target_exists():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = set(re.findall(r"^make ([a-z-]+)", "".join(fenced(page, "sh")), re.M))
        assert named <= targets, page


def test_the_evidence_page_has_the_stored_results():
    stored = evidence.load(evidence.RESULTS)
    assert (DOCS / "evidence.md").read_text("utf-8") == evidence.page(stored)


def test_a_worse_ratio_is_reported():
    old = {
        "search": {"banks": [{"rows": 10, "peers": [{"peer": "x", "single_ratio": 9.0, "s": 1}]}]}
    }
    new = {
        "search": {"banks": [{"rows": 10, "peers": [{"peer": "x", "single_ratio": 5.0, "s": 2}]}]}
    }
    assert evidence.worse(old, old, 0.3) == ([], 1)
    assert evidence.worse(new, old, 0.5) == ([], 1)
    [message], compared = evidence.worse(new, old, 0.3)
    assert ("single_ratio: 5, stored 9" in message, compared) == (True, 1)
    race = {"hashing": {"ways": [{"way": "fast", "times as fast": {"peer": 4.0, "other": 2.0}}]}}
    assert evidence.worse(race, race, 0.3) == ([], 2)
    shares = {"veil": {"lines": [{"bits": 128, "of_the_flat_scan": 1.0}]}}
    slower = {"veil": {"lines": [{"bits": 128, "of_the_flat_scan": 2.0}]}}
    assert evidence.worse(slower, shares, 0.3)[0]
    assert evidence.worse(shares, slower, 0.3)[0] == []
