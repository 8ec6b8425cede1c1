#!/usr/bin/env bash
# The parts that the server is made of, as CycloneDX 1.5 in JSON: every crate with version, licence, checksum.
#
#   deploy/release/sbom.sh FILE [TARGET]
#
# TARGET is a triple of Rust (default x86_64-unknown-linux-gnu): other systems need other crates.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
file=$(realpath -m "$1")
triple=${2:-x86_64-unknown-linux-gnu}
version=0.5.9

if ! cargo cyclonedx --version 2>/dev/null | grep -qF " $version"; then
  # of its own target folder, so that the workspace's settings are no part of it
  (cd / && cargo install --locked --version "$version" cargo-cyclonedx)
fi

# it writes beside each crate's manifest
name=tollgate-sbom
trap 'find . -name "$name.json" -not -path "./target/*" -delete' EXIT
cargo cyclonedx --quiet --manifest-path server/Cargo.toml --format json --spec-version 1.5 \
  --target "$triple" --override-filename "$name"
mkdir -p "$(dirname "$file")"
# the folder of the work tree is no part of it
sed "s|file://$PWD|file:///src|g" "server/$name.json" >"$file"
