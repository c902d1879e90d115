#!/bin/sh
# Install Synapse from PyPI into a temporary folder, and test the gate's module in it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet matrix-synapse
NCIIHASH_SYNAPSE="$folder/venv/bin/python" \
    "${PYTHON:-python3}" -m pytest -v tests/nciihash/gate/test_synapse.py "$@"
