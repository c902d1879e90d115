"""A platform that speaks StopNCII's format."""

DOOR = "/stopncii/v1"


def both(key, other=None):
    return {"x-functions-key": key, "Ocp-Apim-Subscription-Key": other or key}


def fetch(peer, **query):
    reply = peer.service.client.get(f"{DOOR}/FetchHashes", params=query, headers=both(peer.key))
    assert reply.status_code == 200, reply.text
    return reply.json()


def fetch_all(peer, **query):
    """Read every page, and check what a client counts on."""
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


def values(found):
    return [r["hashValue"] for r in found]


def feedback(peer, value, said, key=None):
    return feedback_on(peer, (value, said), key=key)


def feedback_on(peer, *given, key=None):
    """Send feedback on values; each is (value, feedback)."""
    entries = [{"tags": ["x"], "feedbackValue": f, "hashValue": v} for v, f in given]
    body = {"count": len(entries), "hashFeedbacks": entries}
    headers = both(key or peer.key)
    return peer.service.client.post(f"{DOOR}/SubmitFeedback", json=body, headers=headers)


def submit(peer, *hashes, said="Blocked", type="StopNCIISignalType.ImagePDQ"):
    body = {
        "count": len(hashes),
        "hashRecords": [
            {
                "lastModtimestamp": 1795308150,
                "signalType": type,
                "hashValue": value,
                "CSPFeedbacks": [{"tags": [], "feedbackValue": said}],
            }
            for value in hashes
        ],
    }
    return peer.service.client.post(f"{DOOR}/SubmitHashes", json=body, headers=both(peer.key))
