#!/bin/sh
# Run the tests that put autotrace beside another product.
#
# usage: scripts/interop.sh [arguments of pytest]
#
# Installs what they need, the first time or when its pin changed: Arize Phoenix (about 900 MB), an
# agent framework, and with npm the official MCP inspector and conformance suite. Then it runs
# tests/interop with $PYTHON (default: .venv/bin/python, else python3).
set -eu
cd "$(dirname "$0")/.."

pins=tests/interop/requirements
node_major=22 # the oldest that the suites of MCP run on
node_version=22.23.3

python=${PYTHON:-.venv/bin/python}
if [ -z "${PYTHON:-}" ] && [ ! -x "$python" ]; then
    python=python3
fi

# Each copy of a pin is made last: an interrupted installation is started again from nothing.
is_installed() { # name
    cmp -s "$pins-$1.txt" ".venv-$1/installed-requirements.txt"
}

install_python() { # name
    is_installed "$1" && return
    echo "installing $(grep -v '^#' "$pins-$1.txt") into .venv-$1"
    "$python" -m venv --clear ".venv-$1"
    ".venv-$1/bin/python" -m pip install --quiet --no-compile --disable-pip-version-check -r "$pins-$1.txt"
    cp "$pins-$1.txt" ".venv-$1/installed-requirements.txt"
}

# A node that is too old is left alone: the right one comes as a package, too.
install_node() {
    is_installed node && return
    packages=$(grep -v '^#' "$pins-node.txt")
    if [ "$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')" -lt $node_major ] 2>/dev/null; then
        machine=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
        packages="$packages node-$(uname -s | tr '[:upper:]' '[:lower:]')-$machine@$node_version"
    fi
    echo "installing" $packages "into .venv-node"
    rm -rf .venv-node
    mkdir .venv-node
    # Their install scripts are not run; engines are said wrongly of the node that only installs.
    if npm install --prefix .venv-node --silent --no-audit --no-fund --ignore-scripts \
        --fetch-retries=1 --fetch-retry-mintimeout=1000 --fetch-timeout=60000 $packages; then
        cp "$pins-node.txt" .venv-node/installed-requirements.txt
    else
        rm -rf .venv-node
        echo "npm could not install them: the inspector and the conformance suite are left out"
    fi
}

install_python phoenix
install_python agents
if command -v npm >/dev/null && command -v node >/dev/null; then
    install_node
else
    echo "npm and node are not here: the inspector and the conformance suite of MCP are left out"
fi

# A venv that is named must work: without this the tests would skip.
INTEROP_PHOENIX_VENV=$PWD/.venv-phoenix INTEROP_AGENTS_VENV=$PWD/.venv-agents \
    exec "$python" -m pytest -n 2 --dist loadfile -m interop tests/interop "$@"
