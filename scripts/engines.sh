#!/usr/bin/env bash
# Tries real containers with the engines and runtimes of another release of Debian.
#
#   ./scripts/engines.sh [SUITE]    sid where none is named; trixie, forky, ... What comes after "--" goes to the tests
#
# Installs that release into target/engines/SUITE (debootstrap; some 300 MB, once), and runs there what scripts/test.sh runs in
# its tiers runc, crun, podman and containerd, and Docker's. Nothing is installed on this machine but debootstrap. Needs cargo and
# root. The last line is "N passed, N failed"; the exit code is 1 when anything failed.
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin
suite=sid
[ "${1:---}" = -- ] || { suite=$1; shift; }
[ "${1:-}" != -- ] || shift
[ "$(id -u)" -eq 0 ] || { echo "engines.sh: needs root" >&2; exit 1; }

root=$PWD/target/engines/$suite
packages=podman,crun,runc,containerd,docker.io,docker-cli,nftables,netavark,iproute2,iptables,busybox-static,uidmap
packages=$packages,slirp4netns,passt,curl,containernetworking-plugins,conntrack,strace
if [ ! -e "$root/complete" ]; then
    command -v debootstrap >/dev/null || apt-get -qq install -y --no-install-recommends debootstrap
    rm -rf "$root"
    mkdir -p "$root"
    debootstrap --variant=minbase --include="$packages" "$suite" "$root" >"$root.log" 2>&1 ||
        { tail -n 5 "$root.log" >&2; exit 1; }
    touch "$root/complete"
fi

# In the machine's own paths: the tests' binaries name them.
inside() { # COMMAND...
    root=$root unshare --mount --propagation private sh -c '
        set -e
        mount --bind "$root" "$root"
        for dir in proc sys dev tmp "$PWD"; do
            mkdir -p "$root/$dir"
            mount --rbind "/$dir" "$root/$dir"
        done
        here=$PWD
        mkdir -p "$root/old"
        cd "$root"
        pivot_root . old
        umount -l /old
        cd "$here"
        PATH=/usr/sbin:/usr/bin:/sbin:/bin exec "$@"' sh "$@"
}

inside sh -c 'podman --version; crun --version | head -n 1; runc --version | head -n 1; containerd --version; docker --version; nft --version'

cargo build -q --bin netlatch --example prober
names=()
for file in tests/runtimes*.rs tests/hooks_d.rs tests/fault_runtime.rs; do names+=(--test "$(basename "$file" .rs)"); done
passed=0 failed=0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
while read -r binary; do
    status=0
    inside env CARGO_MANIFEST_DIR="$PWD" NETLATCH_STARTS="${NETLATCH_STARTS:-20}" "$binary" -q --include-ignored --skip youki_ "$@" \
        >"$log" 2>&1 </dev/null || status=$?
    result=$(sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; .*/\1 \2/p' "$log")
    read -r good bad <<<"${result:-0 1}"
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    name=$(basename "$binary") && name=${name%-*}
    echo "$name: $good passed, $bad failed"
    [ "$bad" -eq 0 ] || sed 's/^/    /' "$log"
done < <(cargo test --no-run "${names[@]}" 2>&1 | sed -n 's/^ *Executable .*(\(.*\))$/\1/p' | sed "s|^[^/]|$PWD/&|")
[ $((passed + failed)) -gt 0 ] || { echo "engines.sh: the tests do not compile" >&2; failed=1; }
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
