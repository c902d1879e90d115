"""The lock files: complete, with hashes for deployments, without URLs."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from support.paths import ROOT

PINNED = re.compile(r"^([a-z0-9._-]+)==(\S+?)((?: --hash=sha256:[0-9a-f]{64})*)$")


def locked(name):
    """Parse a lock file: the version and the hashes of each package."""
    text = (ROOT / name).read_text().replace(" \\\n   ", "")
    found = {}
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        package, version, hashes = PINNED.match(line.lower()).groups()
        found[canonicalize_name(package)] = version, hashes.split()
    return found


def wanted():
    """Return the requirements of the library and the service."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    return project["dependencies"] + extras["server"] + extras["postgres"]


def test_the_deployment_lock_has_hashes_of_every_requirement():
    packages = locked("requirements-deploy.lock")
    for text in wanted():
        requirement = Requirement(text)
        version, hashes = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text
        assert hashes
    assert "psycopg-binary" in packages  # of the extra `binary`


@pytest.mark.parametrize("name", ["requirements-deploy.lock", "requirements-build.lock"])
def test_every_package_has_hashes_and_no_url(name):
    assert "://" not in (ROOT / name).read_text()
    assert all(hashes for _, hashes in locked(name).values())


def test_deployed_versions_are_the_tested_ones():
    tested = locked("requirements-dev.lock")
    for name, (version, _) in locked("requirements-deploy.lock").items():
        assert tested[name][0] == version, name


def test_the_build_lock_has_every_build_requirement():
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    packages = locked("requirements-build.lock")
    for text in build:
        requirement = Requirement(text)
        version, _ = packages[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), text


def test_the_image_installs_with_hashes():
    image = (ROOT / "examples/deploy/Dockerfile").read_text()
    installs = re.findall(r"pip (?:install|wheel)[^&]*", image)
    assert len(installs) == 4
    for command in installs:
        assert "--require-hashes" in command or "--no-deps" in command
