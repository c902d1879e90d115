#!/bin/sh
# Test the clamd dialect with real clients: clamdscan, Python's clamd, and Haraka with its plugin.
#
#     tests/tools/gate/clamd_peers.sh [PYTHON]
#
# Haraka is installed from npm into a temporary folder; without npm its tests are skipped, as those
# of clamdscan without it (Debian's package `clamdscan`).
set -eu
root=$(cd "$(dirname "$0")/../../.." && pwd)
python=${1:-"$root/.venv/bin/python"}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if command -v npm > /dev/null; then
    cp "$root"/tests/tools/gate/haraka/package*.json "$folder"
    (cd "$folder" && npm ci --omit=optional --no-audit --no-fund --ignore-scripts)
    export HARAKA="$folder"
fi
cd "$root"
"$python" -m pytest -p no:cacheprovider -s tests/nciihash/gate/test_clamd_peers.py
