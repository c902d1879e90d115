"""The lists of pinned packages: complete, with hashes where somebody deploys, without addresses."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+?)((?: --hash=sha256:[0-9a-f]{64})*)$")


def locked(name):
    """Read a list: for each package its version and its hashes."""
    text = (ROOT / name).read_text().replace(" \\\n   ", "")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        package, version, hashes = PINNED.match(line.lower()).groups()
        found[canonicalize_name(package)] = version, hashes.split()
    return found


def wanted():
    """Give what the service and the library ask for."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return project["dependencies"] + extras["server"] + extras["postgres"]


def test_a_deployment_has_a_hash_for_each_package_it_asks_for():
    held = locked("requirements-deploy.lock")
    for text in wanted():
        asked = Requirement(text)
        version, hashes = held[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), text
        assert hashes
    assert "psycopg-binary" in held  # of the extra `binary`


@pytest.mark.parametrize("name", ["requirements-deploy.lock", "requirements-build.lock"])
def test_every_line_has_hashes_and_no_address(name):
    assert "://" not in (ROOT / name).read_text()
    assert all(hashes for _, hashes in locked(name).values())


def test_what_is_deployed_is_what_was_tested():
    tested = locked("requirements-dev.lock")
    for name, (version, _) in locked("requirements-deploy.lock").items():
        assert tested[name][0] == version, name


def test_building_asks_for_nothing_else():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    held = locked("requirements-build.lock")
    for text in build:
        asked = Requirement(text)
        assert asked.specifier.contains(held[canonicalize_name(asked.name)][0]), text


def test_the_image_installs_with_hashes():
    image = (ROOT / "examples/deploy/Dockerfile").read_text()
    installs = re.findall(r"pip (?:install|wheel)[^&]*", image)
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command
