#!/usr/bin/env bash
# Measures what policies cost, and prints medians with ratios. Nothing here passes or fails by time.
#
#   ./scripts/bench.sh                 everything
#   ./scripts/bench.sh among reload    only these: start among cidrs policies reach reload
#   ./scripts/bench.sh growth [NAME]   how the time for hostile input grows with its size; needs no root
#   ROUNDS=20 ...                      fewer samples than 50
#   NETLATCH=FILE ...                  another binary than this tree's release build
#
# Needs root, nft, ip and unshare. Works in network namespaces of its own, up to a thousand of them.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
export CARGO_TERM_COLOR=never

if [ "${1:-}" = growth ]; then
    shift
    # What grows in a debug build grows in a release.
    exec cargo run --quiet --example bench-growth -- "$@"
fi

[ "$(id -u)" -eq 0 ] || { echo "bench.sh: needs root" >&2; exit 1; }
for command in nft ip unshare cargo; do
    command -v "$command" >/dev/null || { echo "bench.sh: $command is missing" >&2; exit 1; }
done

target=$(rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p')
[ -n "${NETLATCH:-}" ] || cargo build --quiet --release --bin netlatch
cargo build --quiet --example bench-policy --example bench-empty
examples=target/$target/debug/examples

echo "$(date -u +%F), Linux $(uname -r), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
exec "$examples/bench-policy" "${NETLATCH:-target/$target/release/netlatch}" "$examples/bench-empty" "$@"
