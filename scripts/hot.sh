#!/usr/bin/env bash
# Writes scripts/hot.ld: which functions the stages of a hook run, so that the linker lays them side by side.
#
#   ./scripts/hot.sh
#
# The kernel reads a program in pieces of 64 KiB, at a page fault each. What a start runs is a sixth of the program; strewn over
# it, nearly every piece is read and stays resident, side by side it is ten pieces. Patterns hold across compilers and machines;
# one that matches nothing any more costs a fault and nothing else. To be run again when the hook's way has changed a lot.
#
# Needs root and x86-64, and takes some ten minutes: stages are stepped through one instruction at a time.
set -eu
cd "$(dirname "$0")/.."
export CARGO_TERM_COLOR=never
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

target=$(rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p')
cargo build --quiet --example bench-steps
cargo rustc --quiet --release --bin netlatch -- -C "link-arg=-Wl,-Map=$work/map"
"target/$target/debug/examples/bench-steps" "target/$target/release/netlatch" >"$work/addresses"

{
    echo "/* Written by scripts/hot.sh, which says what it is for. */"
    echo "SECTIONS {"
    echo "  .text.hot : {"
    awk -f scripts/hot.awk "$work/map" "$work/addresses"
    echo "  }"
    echo "}"
    echo "INSERT BEFORE .text;"
} >"$work/hot.ld"
mv "$work/hot.ld" scripts/hot.ld
wc -l scripts/hot.ld
