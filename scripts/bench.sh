#!/usr/bin/env bash
# Measures what the hook costs, beside what one would take instead, and prints medians with ratios. Nothing here passes or fails
# by time.
#
#   ./scripts/bench.sh                 everything
#   ./scripts/bench.sh peers load      only these. Beside other programs: peers load packets runc; and what policies cost: start among cidrs
#                                      policies reach reload
#   ./scripts/bench.sh many [WORK...]  many starts at once, with containers of lists nobody ten all mix, and after a reboot. Also
#                                      PARALLEL=1,4,16,64 RUNNING=0,100,1000 and STARTS=128 of each
#   ./scripts/bench.sh versions        two builds of the hook: VERSIONS=OLD:NEW
#   ./scripts/bench.sh growth [NAME]   how the time for hostile input grows with its size; needs no root
#   NETLATCH_SEED=7 ...                the same order of the rows in each round as the time before, which printed it
#   ROUNDS=20 ...                      fewer samples than 50
#   RULES=FILE:FILE ...                in `packets` also rules that nft loads from these files; packets go to 10.98.0.0/16 and 10.99.0.2,
#                                      port 7777
#   SIZES=10,1000 ...                  only these sizes of lists in `load` and `packets`
#   NETLATCH=FILE ...                  another binary than this tree's release build
#   NO_INSTALL=1 ...                   peers that are not installed are left out
#
# Needs root, nft, ip and unshare; installs missing peers (Debian, Ubuntu). Works in network namespaces of its own, up to a
# thousand of them. Pictures go to target/figures/, with the samples themselves. Who fails is named, the others go on, and the end
# is 1.
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

if [ -z "${NO_INSTALL:-}" ] && command -v apt-get >/dev/null; then
    packages=
    for peer in nft:nftables iptables:iptables ipset:ipset /usr/lib/cni/bridge:containernetworking-plugins \
        /usr/lib/podman/netavark:netavark runc:runc; do
        command -v "${peer%:*}" >/dev/null || packages="$packages ${peer#*:}"
    done
    # Not measured, but built with: see scripts/build.rs.
    [ -f "/usr/lib/$(uname -m)-linux-musl/libc.a" ] || packages="$packages musl-dev"
    # shellcheck disable=SC2086
    [ -z "$packages" ] || DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $packages >/dev/null ||
        echo "not installed:$packages"
fi

target=$(rustc --print host-tuple 2>/dev/null || rustc -vV | sed -n 's/^host: //p')
[ -n "${NETLATCH:-}" ] || cargo build --quiet --release --bin netlatch
cargo build --quiet --example bench-policy --example bench-peers --example bench-many --example bench-floor --example bench-empty --example bench-peak
examples=target/$target/debug/examples
netlatch=${NETLATCH:-target/$target/release/netlatch}

echo "$(date -u +%F), Linux $(uname -r), $(nproc) cores, $(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)"
# Run directories are on a tmpfs, as /run is on a host.
many() { TMPDIR=$(findmnt -no TARGET -t tmpfs -T /dev/shm || echo "${TMPDIR:-/tmp}") "$examples/bench-many" "$netlatch" "$examples/bench-empty" target/figures "$@"; }
if [ "${1:-}" = many ]; then
    shift
    many "$@"
    exit
fi
beside=() policies=() failed=0
for group in "$@"; do
    case $group in
    peers | load | packets | runc | versions) beside+=("$group") ;;
    *) policies+=("$group") ;;
    esac
done
if [ $# -eq 0 ] || [ ${#beside[@]} -gt 0 ]; then
    "$examples/bench-peers" "$netlatch" "$examples" target/figures "${beside[@]}" || failed=1
fi
if [ $# -eq 0 ] || [ ${#policies[@]} -gt 0 ]; then
    "$examples/bench-policy" "$netlatch" "$examples/bench-empty" target/figures "${policies[@]}" || failed=1
fi
[ $# -gt 0 ] || many || failed=1
[ $failed -eq 0 ] || echo "bench.sh: what failed is named above" >&2
exit $failed
