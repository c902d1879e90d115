import os

import pytest

from nciihash.sandbox import pipe


def test_a_message_of_absurd_depth_is_none():
    inlet, outlet = os.pipe()
    os.write(outlet, (50_000).to_bytes(4) + b"[" * 50_000)
    with pytest.raises(ValueError, match="depth"):
        pipe.receive(inlet)
    os.close(inlet)
    os.close(outlet)
