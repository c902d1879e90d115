"""The dashboard and the alert rules of examples/gate, against the metrics that a gate has."""

import json
import re
import shutil
import subprocess

import pytest

from nciihash.gate.metrics import GateState, LaneState, Metrics
from nciihash.gate.outcome import Decision, Dialect, Outcome, Reason
from nciihash.signals import Media
from support.paths import ROOT

EXAMPLES = ROOT / "examples" / "gate"
ALERTS = (EXAMPLES / "alerts.yaml").read_text()
DASHBOARD = json.loads((EXAMPLES / "grafana.json").read_text())
EXPRESSIONS = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
NAME = re.compile(r"\bnciihash_gate_\w+")
LABEL = re.compile(r'(\w+)=~?"([^"]*)"')


@pytest.fixture(scope="module")
def exposed():
    """Return the metrics of a gate in which everything has happened."""
    metrics = Metrics()
    block = Outcome(Decision.BLOCK, Reason.MATCH, stop=True, media=Media.IMAGE)
    metrics.observe(Dialect.HTTP, block, intended=block, receive=0, wait=0, hash=0, match=0)
    metrics.watch_connections(Dialect.HTTP, lambda: 0)
    lanes = {media: LaneState() for media in Media}
    state = GateState(0, None, False, True, False, None, lanes, 0, 0, 0)
    return metrics.read(state).decode()


@pytest.mark.parametrize("text", [ALERTS, *EXPRESSIONS])
def test_every_metric_exists(exposed, text):
    names = {line.partition(" ")[0].partition("{")[0] for line in exposed.splitlines()}
    assert set(NAME.findall(text)) <= names


def test_every_metric_is_shown(exposed):
    families = {line.split()[2] for line in exposed.splitlines() if line.startswith("# TYPE")}
    families = {name for name in families if not name.endswith("_created")}
    used = " ".join([ALERTS, *EXPRESSIONS])
    assert [name for name in sorted(families) if name not in used] == []


@pytest.mark.parametrize("text", [ALERTS, *EXPRESSIONS])
def test_every_value_of_a_label_can_occur(text):
    values = {
        "decision": set(Decision),
        "dialect": set(Dialect),
        "reason": set(Reason),
        "media": set(Media) | {"none"},
    }
    for label, value in LABEL.findall(text):
        if label in values:
            assert set(value.split("|")) <= values[label]


def test_panels_do_not_overlap():
    taken = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_prometheus_takes_the_rules_and_the_expressions(tmp_path, exposed):
    groups = {
        "groups": [
            {
                "name": "dashboard",
                "rules": [
                    {"record": f"r{row}", "expr": expr.replace("$__rate_interval", "5m")}
                    for row, expr in enumerate(EXPRESSIONS)
                ],
            }
        ]
    }
    expressions = tmp_path / "dashboard.yaml"  # YAML includes JSON
    expressions.write_text(json.dumps(groups))
    for file in (EXAMPLES / "alerts.yaml", expressions):
        result = subprocess.run(
            ["promtool", "check", "rules", file], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr
        assert "SUCCESS" in result.stdout
    result = subprocess.run(
        ["promtool", "check", "metrics"], input=exposed, capture_output=True, text=True, check=False
    )
    assert "error" not in result.stderr, result.stderr
