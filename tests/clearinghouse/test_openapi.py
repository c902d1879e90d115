"""The service conforms to its OpenAPI document: no server error, no undocumented response.

The tests use a real server, since clients also get responses that the application did not make.
`schemathesis` sends valid and invalid requests to each operation, with its credentials.
`SCHEMATHESIS_EXAMPLES` sets the number of requests.
"""

import base64
import os

import httpx
import pytest
from hypothesis import HealthCheck, settings

from clearinghouse.app import create_app
from clearinghouse.settings import Settings
from nciihash.client.advocate import AdvocateClient
from nciihash.wire import Reason
from support.local import random_item
from support.service_process import ServiceProcess

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "5"))


@pytest.fixture(scope="module")
def serving(tmp_path_factory):
    with ServiceProcess(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def credentials(serving):
    """Return the credentials for each API, by tag."""
    scopes = "feed,match,feedback,contribute"
    platform = serving.platform(scopes)
    advocate = serving.command("advocate", "add", "Helpline").stdout.strip()
    body = {
        "declaration": {"adult": True, "depicted": True},
        "reason": "shared",
        "items": [{"media": "image", "signals": [random_item().hashes[0]]}],
    }
    signal = body["items"][0]["signals"][0]
    body["items"][0]["signals"] = [{"type": "pdq", "value": signal.signal.hex, "quality": 90}]
    case = httpx.post(f"{serving.address}/v1/cases", json=body).raise_for_status().json()
    pair = base64.b64encode(f"{case['case']}:{case['passphrase']}".encode()).decode()
    with AdvocateClient(serving.address, advocate) as client:
        facts = {"reason": Reason.SHARED, "consent": True, "adult": True, "depicted": True}
        client.open_case([random_item()], **facts)
    return {
        "survivors": {"Authorization": f"Case {pair}"},
        "advocates": {"Authorization": f"Bearer {advocate}"},
        "platforms": {"Authorization": f"Bearer {platform}"},
        "platforms, StopNCII format": {
            "x-functions-key": platform,
            "Ocp-Apim-Subscription-Key": platform,
        },
    }


schema = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
CHECKS = [
    schemathesis.checks.not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@schema.parametrize()
@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
def test_every_response_conforms_to_the_document(case, serving, credentials):
    (tag, *_) = case.operation.definition.raw.get("tags", ["none"])
    if case.operation.path == "/v1/feed" and case.query:
        case.query.pop("wait", None)  # do not wait for half a minute
    headers = credentials.get(tag, {})
    case.call_and_validate(base_url=serving.address, headers=headers, checks=CHECKS)
