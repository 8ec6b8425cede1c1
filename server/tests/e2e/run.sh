#!/usr/bin/env bash
# Real clients against the server: Envoy, nginx, Caddy, HAProxy, gRPC from Python, Chromium. Installs what is missing.
#
#   server/tests/e2e/run.sh [pytest arguments]
#
# TOLLGATE_BIN names the server's program; without it the debug build is made and used.
# TOLLGATE_SCREENSHOTS names a folder for pictures of the console, such as docs/console.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
root="$(cd "$here/../../.." && pwd)"
target="${CARGO_TARGET_DIR:-$root/target}"
venv="$target/e2e-venv"

say() { printf '== %s\n' "$*"; }

# shellcheck source=../packages.sh
. "$here/../packages.sh"
want nginx nginx
want caddy caddy
want haproxy haproxy
want redis-server redis-server
want chromium chromium
want promtool prometheus
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
install_wanted

# Python packages, once per version of the list
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
  say "python environment in $venv"
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$venv/installed.txt"
fi

# Python stubs of this repository's protos
stubs="$venv/stubs"
rm -rf "$stubs" && mkdir -p "$stubs"
(cd "$root/proto" && find envoy tollgate -name '*.proto' -print0 |
  xargs -0 "$venv/bin/python" -m grpc_tools.protoc -I. --python_out="$stubs" --grpc_python_out="$stubs")
# Envoy's program is in a package that is called envoy too: ours has to be a regular one to go before it
find "$stubs" -type d -exec touch {}/__init__.py \;

if [ -z "${TOLLGATE_BIN:-}" ]; then
  say "building the server"
  (cd "$root" && cargo build --quiet --locked -p tollgate-server)
  TOLLGATE_BIN="$target/debug/tollgate"
fi
export TOLLGATE_BIN PATH="$PATH:/usr/sbin"
export PYTHONPATH="$stubs:$here" PYTHONDONTWRITEBYTECODE=1
cd "$here"
exec "$venv/bin/python" -m pytest -q -p no:cacheprovider "$@"
