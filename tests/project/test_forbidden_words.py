"""The list of words that this project does not use, and the program that counts them."""

import subprocess
import sys

from support.paths import ROOT

TOOL = ROOT / "tests/tools/words.py"


def run(*arguments):
    command = [sys.executable, TOOL, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_no_forbidden_word_is_new():
    result = run()
    assert result.returncode == 0, result.stderr


def test_a_forbidden_word_is_found_in_names_comments_and_messages(tmp_path):
    (tmp_path / "new.py").write_text(
        'def open_door(theDoor):  # the room behind\n    """Give it back."""\n'
        '    print("Each hears what it told the other.")\n',
        encoding="utf-8",
    )
    (tmp_path / "fine.py").write_text(
        "# replaces the placeholder in place; a proxy listens behind the proxy; understand\n",
        encoding="utf-8",
    )
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "."], cwd=tmp_path, check=True)
    found = run("--root", tmp_path, "new.py").stdout.splitlines()
    names = sorted(line.split(": ", 1)[1].split(" -> ")[0] for line in found)
    assert names == ["behind", "docstring: Give", "door", "door", "give", "hear", "room", "tell"]
    assert run("--root", tmp_path, "fine.py").stdout == ""
    counted = run("--root", tmp_path)
    assert counted.returncode == 1
    assert "'room': 1 uses where 0 may remain" in counted.stderr
