#!/usr/bin/env bash
# Everything of a release, into dist/: programs for both architectures, SBOMs, checksums; then the image of both.
#
#   deploy/release/release.sh VERSION             makes all, pushes nothing; the image stays in the builder's cache
#   deploy/release/release.sh VERSION --push      pushes the image to $IMAGE (default ghcr.io/tollgate/tollgate)
#   deploy/release/release.sh VERSION --no-image  for machines without Docker
#
# It needs a clean work tree whose Cargo.toml and CHANGELOG.md name VERSION, Debian with Rust (rustup), and Docker with
# buildx for the image.
set -euo pipefail
cd "$(dirname "$0")/../.."

say() { printf '== %s\n' "$*"; }
stop() { echo "release.sh: $*" >&2; exit 1; }

[ $# -ge 1 ] && [ $# -le 2 ] || { sed -n '2,9s/^# \{0,1\}//p' "$0" >&2; exit 2; }
version=$1
mode=${2:-}
case "$mode" in '' | --push | --no-image) ;; *) stop "$mode is not known" ;; esac

# --- is this the release that it says it is?
[ -z "$(git status --porcelain)" ] || stop "the work tree has changes that are not committed"
grep -q "^version = \"$version\"$" Cargo.toml || stop "Cargo.toml has another version than $version"
grep -q "^## \[$version\]" CHANGELOG.md || stop "CHANGELOG.md has no section [$version]"
! grep -q "^## \[$version\] - unreleased" CHANGELOG.md || stop "CHANGELOG.md calls $version unreleased: give it its date"

# two builds of one commit are one build
TOLLGATE_COMMIT=$(git rev-parse --short=12 HEAD)
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export TOLLGATE_COMMIT SOURCE_DATE_EPOCH

rm -rf dist && mkdir dist
for architecture in amd64 arm64; do
  say "program for $architecture"
  deploy/release/compile.sh "$architecture" "dist/tollgate-linux-$architecture"
done
say "parts"
deploy/release/sbom.sh dist/tollgate-linux-amd64.cdx.json x86_64-unknown-linux-gnu
deploy/release/sbom.sh dist/tollgate-linux-arm64.cdx.json aarch64-unknown-linux-gnu
(cd dist && sha256sum -- * >SHA256SUMS && cat SHA256SUMS)

[ "$mode" != --no-image ] || exit 0
say "image"
PROGRAM=prebuilt VERSION=$version docker buildx bake -f deploy/release/docker-bake.hcl ${mode:+"$mode"}
