#!/usr/bin/env bash
# Compiles the server for one architecture of Linux and puts the program where it is told. Debian with Rust; what a
# foreign architecture needs (linker, C library, Rust's standard library) is installed if it is missing.
#
#   deploy/release/compile.sh amd64|arm64 PROGRAM
#
# TOLLGATE_COMMIT and SOURCE_DATE_EPOCH are passed on to the build.
set -euo pipefail
cd "$(dirname "$0")/../.."

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -eq 2 ] || usage
case "$1" in
  amd64) machine=x86_64 ;;
  arm64) machine=aarch64 ;;
  *) usage ;;
esac
program=$2
triple=$machine-unknown-linux-gnu

if [ "$(uname -m)" != "$machine" ]; then
  compiler=$machine-linux-gnu-gcc
  if ! command -v "$compiler" >/dev/null; then
    apt-get update -qq
    # x86-64 with a hyphen is how Debian spells it in package names
    apt-get install -y -qq --no-install-recommends "gcc-${machine/x86_64/x86-64}-linux-gnu" "libc6-dev-$1-cross"
  fi
  rustup target add "$triple"
  variable=${triple^^}
  export "CARGO_TARGET_${variable//-/_}_LINKER=$compiler" "CC_${triple//-/_}=$compiler"
fi

# an empty variable is not the same as none
[ -n "${SOURCE_DATE_EPOCH:-}" ] || unset SOURCE_DATE_EPOCH
[ -n "${TOLLGATE_COMMIT:-}" ] || unset TOLLGATE_COMMIT

# the folder of the build is no part of the program
export RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/src"
export CARGO_INCREMENTAL=0
cargo build --release --locked -p tollgate-server --bin tollgate --target "$triple"
mkdir -p "$(dirname "$program")"
cp "${CARGO_TARGET_DIR:-target}/$triple/release/tollgate" "$program"
strip=$(command -v "$machine-linux-gnu-strip" || command -v strip)
"$strip" --strip-debug "$program"
