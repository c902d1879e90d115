"""The plan of a scan: how a source is split into blocks."""

from collections import Counter

import pytest

from nciihash.scan.plan import Kind, plan
from nciihash.scan.sources import Folder
from support.scans import QUERIED

pytest.importorskip("pyarrow")


def test_blocks_cover_everything_once(hashes):
    for per_block in (1, 50, 64, 10**6):
        planned = plan(Folder(hashes), per_block)
        assert planned.kind is Kind.HASHES
        assert (planned.files, planned.count) == (3, QUERIED)
        assert [block.number for block in planned.blocks] == list(range(len(planned.blocks)))
        groups = Counter(
            (part.name, group)
            for block in planned.blocks
            for part in block.parts
            for group in range(part.first, part.last)
        )
        assert set(groups.values()) == {1}
        assert len(groups) == 7 + 1 + 5
    assert len(plan(Folder(hashes), 10**6).blocks) == 1
    assert plan(Folder(hashes), 50).fingerprint != plan(Folder(hashes), 64).fingerprint
