#!/bin/sh
# Builds the Debian package and prints its path. Needs cargo-deb: cargo install cargo-deb --locked
#
#   scripts/deb.sh             from a release build
#   scripts/deb.sh --debug     from a debug build, quickly compressed: for tests
#
# OUT names another folder than target/debian, VERSION another version.
set -eu
cd "$(dirname "$0")/.."
triple=$(rustc -vV | sed -n 's/^host: //p')
built=release
set -- "${1:-}"
case $1 in
'') set -- ;;
--debug) built=debug && set -- --profile dev --fast --no-strip ;;
*) echo "deb.sh: unknown option $1" >&2 && exit 2 ;;
esac
if [ $built = release ]; then cargo build --release >&2; else cargo build >&2; fi
binary=target/$triple/$built/netlatch
mkdir -p target/deb
"$binary" man >target/deb/netlatch.1
"$binary" completions bash >target/deb/netlatch.bash
"$binary" completions zsh >target/deb/_netlatch
"$binary" completions fish >target/deb/netlatch.fish
"$binary" schema config >target/deb/config.schema.json
cargo deb --quiet --no-build --target "$triple" ${VERSION:+--deb-version "$VERSION"} --output "${OUT:-target/debian}/" "$@"
