#!/bin/sh
# Run the tests that put autotrace beside another product.
#
# usage: scripts/interop.sh [arguments of pytest]
#
# Installs Arize Phoenix into .venv-phoenix (first time, or when its pin changed; about 900 MB) and
# runs tests/interop with $PYTHON (default: .venv/bin/python, else python3).
set -eu
cd "$(dirname "$0")/.."

venv=$PWD/.venv-phoenix
pin=tests/interop/requirements-phoenix.txt
installed=$venv/installed-requirements.txt

python=${PYTHON:-.venv/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -x "$python" ]; then
    python=python3
fi

# The copy is made last: an interrupted installation is started again from nothing.
if ! cmp -s "$pin" "$installed"; then
    echo "installing $(grep -v '^#' "$pin") into $venv"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check -r "$pin"
    cp "$pin" "$installed"
fi

# A venv that is named must work: without this the tests would skip.
INTEROP_PHOENIX_VENV=$venv exec "$python" -m pytest -m interop tests/interop "$@"
