#!/usr/bin/env bash
# Sets up and passes all tests: unit, property and integration tests of every crate (with real Redis servers
# and clusters, started by the tests), then real clients (Envoy, nginx, Caddy, HAProxy, gRPC from Python)
# against the server. Installs the Debian packages that are missing.
#
#   ./test.sh            everything
#   ./test.sh --rust     only what cargo runs
#   ./test.sh --clients  only the real clients
set -euo pipefail
cd "$(dirname "$0")"

say() { printf '== %s\n' "$*"; }
need() {
  command -v "$1" >/dev/null && return
  echo "test.sh: $1 is missing: $2" >&2
  exit 1
}

need cargo "install Rust 1.95 from https://rustup.rs"
need cc "install a C compiler (Debian: apt-get install gcc)"
what="${1:-}"

if [ "$what" != --clients ]; then
  # shellcheck source=server/tests/packages.sh
  . server/tests/packages.sh
  want redis-server redis-server
  install_wanted
  say "cargo test"
  cargo test --workspace --all-features --locked --no-fail-fast
fi
if [ "$what" != --rust ]; then
  say "real clients"
  need python3 "install Python 3.11 or newer"
  server/tests/e2e/run.sh
fi
say "all tests passed"
