import os

import pytest

from nciihash.sandbox import pipe


def test_a_deeply_nested_message_is_refused():
    inlet, outlet = os.pipe()
    os.write(outlet, (50_000).to_bytes(4) + b"[" * 50_000)
    with pytest.raises(ValueError, match="deeply"):
        pipe.receive(inlet)
    os.close(inlet)
    os.close(outlet)
