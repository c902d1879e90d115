"""A platform that uses the StopNCII-compatible API."""

API = "/stopncii/v1"


def key_headers(key, other=None):
    return {"x-functions-key": key, "Ocp-Apim-Subscription-Key": other or key}


def fetch(peer, **query):
    reply = peer.service.client.get(
        f"{API}/FetchHashes", params=query, headers=key_headers(peer.key)
    )
    assert reply.status_code == 200, reply.text
    return reply.json()


def fetch_all(peer, **query):
    """Fetch every page, and check the rules that clients rely on."""
    pages, token = [], None
    while True:
        page = fetch(peer, **query, **({"nextPageToken": token} if token else {}))
        pages.append(page)
        assert page["count"] == len(page["hashRecords"])
        if not page["hasMoreRecords"]:
            assert page["nextPageToken"] is None
            break
        token = page["nextPageToken"]
    times = [r["lastModtimestamp"] for p in pages for r in p["hashRecords"]]
    assert times == sorted(times)
    ends = [p["nextSetTimestamp"] for p in pages]
    assert ends == sorted(ends)
    for page in pages:
        if page["hashRecords"]:
            assert page["nextSetTimestamp"] == page["hashRecords"][-1]["lastModtimestamp"]
    return [r for p in pages for r in p["hashRecords"]]


def values(records):
    return [r["hashValue"] for r in records]


def feedback(peer, value, feedback_value, key=None):
    return feedback_on(peer, (value, feedback_value), key=key)


def feedback_on(peer, *given, key=None):
    """Send feedback, given as pairs of a value and the feedback on it."""
    entries = [{"tags": ["x"], "feedbackValue": f, "hashValue": v} for v, f in given]
    body = {"count": len(entries), "hashFeedbacks": entries}
    headers = key_headers(key or peer.key)
    return peer.service.client.post(f"{API}/SubmitFeedback", json=body, headers=headers)


def submit(peer, *hashes, feedback_value="Blocked", type="StopNCIISignalType.ImagePDQ"):
    body = {
        "count": len(hashes),
        "hashRecords": [
            {
                "lastModtimestamp": 1795308150,
                "signalType": type,
                "hashValue": value,
                "CSPFeedbacks": [{"tags": [], "feedbackValue": feedback_value}],
            }
            for value in hashes
        ],
    }
    return peer.service.client.post(f"{API}/SubmitHashes", json=body, headers=key_headers(peer.key))
