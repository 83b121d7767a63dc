#!/usr/bin/env bash
# Runs every test there is, and says of each tier: ok, FAILED, or not run and why.
#
#   ./scripts/test.sh               install what the tests need (Debian, Ubuntu), then run all tiers
#   REQUIRE="packets runc" ...      a named tier that cannot run here counts as failed
#   NETLATCH_STARTS=20 ...          fewer container starts than 200
#   NO_INSTALL=1 ...                install nothing
#   NETLATCH_YOUKI=/path/youki ...  youki, which takes minutes to build and is not built here
#
# Needs cargo, and root or sudo for most tiers; without either the kernel tiers run in a user namespace. The last line
# is "N passed, N failed"; the exit code is 1 when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1
PATH=$PATH:/usr/sbin:/sbin
export CARGO_TERM_COLOR=never

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 unrun=0

# --- What the machine has -----------------------------------------------------------------------------------------

root=()
if [ "$(id -u)" -ne 0 ]; then
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then root=(sudo -n); else root=(false); fi
fi

missing() { # COMMAND PACKAGE ...: the packages whose command, or file, is not there
    while [ $# -gt 0 ]; do
        command -v "$1" >/dev/null || [ -f "$1" ] || echo "$2"
        shift 2
    done
}

install_missing() {
    local packages policy
    packages=$(missing cc gcc nft nftables ip iproute2 unshare util-linux busybox busybox-static \
        runc runc crun crun podman podman /usr/lib/podman/netavark netavark iptables iptables \
        /lib/systemd/systemd-journald systemd slirp4netns slirp4netns newuidmap uidmap containerd containerd \
        /usr/lib/cni/bridge containernetworking-plugins curl curl conntrack conntrack strace strace \
        valgrind valgrind tar tar "/usr/lib/$(uname -m)-linux-musl/libc.a" musl-dev | sort -u | tr '\n' ' ')
    [ -n "${packages// /}" ] || return 0
    [ -z "${NO_INSTALL:-}" ] || return 0
    command -v apt-get >/dev/null || { echo "no apt-get here; please install: $packages"; return 0; }
    [ "${root[*]:-}" != false ] || { echo "neither root nor sudo; please install: $packages"; return 0; }
    echo "installing $packages"
    local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    "${apt[@]}" update >"$logs/apt" 2>&1 || true
    # No service starts by being installed: 101 is "not allowed" to invoke-rc.d.
    if [ ! -e /usr/sbin/policy-rc.d ]; then
        printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee /usr/sbin/policy-rc.d >/dev/null
        "${root[@]}" chmod 755 /usr/sbin/policy-rc.d
        policy=here
    fi
    # One by one where all at once fails: a package that a release lacks must not keep the others away.
    # shellcheck disable=SC2086
    "${apt[@]}" install -y --no-install-recommends $packages >>"$logs/apt" 2>&1 ||
        for package in $packages; do
            "${apt[@]}" install -y --no-install-recommends "$package" >>"$logs/apt" 2>&1 || echo "  $package: not available"
        done
    [ -z "${policy:-}" ] || "${root[@]}" rm /usr/sbin/policy-rc.d
    hash -r
}

# --- Running a tier -----------------------------------------------------------------------------------------------

line() { printf '%-9s %-10s %s\n' "$1" "$2" "$3"; }

not_run() { # TIER WHY [TESTS]
    if [[ " ${REQUIRE:-} " == *" $1 "* ]]; then
        line FAILED "$1" "required, but not run: $2"
        failed=$((failed + 1))
    else
        line "not run:" "$1" "$2"
        unrun=$((unrun + ${3:-1}))
    fi
}

tier() { # TIER COMMAND...: counts what `cargo test` counts; any other command counts as one test
    local name=$1 log=$logs/$1 status=0 good bad start=$SECONDS
    shift
    "$@" >"$log" 2>&1 || status=$?
    good=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$log" | paste -sd+ | bc_)
    bad=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$log" | paste -sd+ | bc_)
    grep -q '^test result: ' "$log" || good=$((status == 0))
    # Not even compiled, or killed: one failure at least.
    [ "$status" -eq 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + good)) failed=$((failed + bad))
    if [ "$status" -eq 0 ] && [ "$bad" -eq 0 ]; then
        line ok "$name" "$good passed, $((SECONDS - start)) s"
    else
        line FAILED "$name" "$good passed, $bad failed, $((SECONDS - start)) s"
        sed 's/^/    /' "$log"
    fi
}

bc_() { local sum; read -r sum; echo $((${sum:-0})); }

tests() { # GLOB...: the `--test NAME` arguments of the files in tests/ that match
    local glob file
    for glob in "$@"; do
        for file in tests/$glob.rs; do
            [ ! -f "$file" ] || printf -- '--test\n%s\n' "$(basename "$file" .rs)"
        done
    done
}

as_root() { # COMMAND...: with the tests' binaries run as root, or as root of a user namespace
    local triple
    triple=$(rustc -vV | sed -n 's/^host: //p' | tr 'a-z-' 'A-Z_')
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif [ "${root[*]}" != false ]; then
        env "CARGO_TARGET_${triple}_RUNNER=sudo -n --preserve-env=NETLATCH_STARTS,NETLATCH_BIN,NETLATCH_CASES,NETLATCH_SEED,NETLATCH_ONLY,NETLATCH_WORLDS,NETLATCH_YOUKI,CARGO_MANIFEST_DIR" "$@"
    else
        env "CARGO_TARGET_${triple}_RUNNER=unshare -rnm" "$@"
    fi
}

try() { "${root[@]}" "$@" >"$logs/try" 2>&1; }
why() { tail -n 1 "$logs/try" | cut -c 1-150; }

# What kernel tests need: namespaces, veth and nf_tables. Prints what is missing.
kernel_lacks() {
    local check='ip link add veth-a type veth peer name veth-b && nft add table inet t'
    command -v nft >/dev/null && command -v ip >/dev/null || { echo "nft or ip is not installed"; return; }
    if [ "${root[*]:-}" = false ]; then
        unshare -rnm sh -c "$check" >"$logs/try" 2>&1 || echo "neither root nor a user namespace: $(why)"
    else
        try unshare -n sh -c "$check" || echo "$(why)"
    fi
}

# Whether a runtime can start a container here at all. Prints why not.
runtime_lacks() { # runc | crun
    command -v "$1" >/dev/null || { echo "$1 is not installed"; return; }
    command -v busybox >/dev/null || { echo "busybox-static is not installed"; return; }
    local dir start="exec $1"
    dir=$(mktemp -d)
    mkdir -p "$dir/rootfs/bin" "$dir/rootfs/proc" "$dir/rootfs/dev"
    cp "$(command -v busybox)" "$dir/rootfs/bin/true"
    cat >"$dir/config.json" <<END
{"ociVersion": "1.0.2", "process": {"cwd": "/", "args": ["/bin/true"], "user": {"uid": 0, "gid": 0}},
 "root": {"path": "rootfs"}, "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
 "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]}}
END
    # crun does not start beside a cgroup v2 mounted under v1; see tests/support/bundle.rs.
    [ "$1" != crun ] || start="umount /sys/fs/cgroup/unified 2>/dev/null; exec crun"
    try unshare --mount sh -c "$start --root $dir/state run --bundle $dir netlatch-check-$$" </dev/null ||
        echo "$1 starts no container here: $(why)"
    "${root[@]}" rm -rf "$dir"
}

# No distribution has it, and it takes minutes to build.
youki_lacks() {
    local program=${NETLATCH_YOUKI:-target/runtimes/bin/youki}
    command -v "$program" >/dev/null ||
        { echo "no $program: cargo install youki --locked --features v1,v2 --root target/runtimes"; return; }
    try "$program" --version || echo "youki does not work here: $(why)"
}

podman_lacks() {
    command -v podman >/dev/null || { echo "podman is not installed"; return; }
    local dir
    dir=$(mktemp -d)
    try podman --root "$dir/s" --runroot "$dir/r" --tmpdir "$dir/t" --storage-driver vfs --cgroup-manager cgroupfs \
        --runtime runc info || echo "podman does not work here: $(why)"
    "${root[@]}" rm -rf "$dir"
    # What its networks and its users stand on.
    local file
    command -v netavark /usr/lib/podman/netavark /usr/libexec/podman/netavark >/dev/null || echo "netavark is not installed"
    for file in iptables slirp4netns newuidmap; do
        command -v "$file" >/dev/null || echo "$file is not installed"
    done
    [ -c /dev/net/tun ] || echo "there is no /dev/net/tun"
}

containerd_lacks() {
    local program
    for program in containerd ctr containerd-shim-runc-v2 /usr/lib/cni/bridge curl; do
        command -v "$program" >/dev/null || { echo "$program is not installed"; return; }
    done
}

# The first engine that brings CDI devices to containers is 25.
docker_lacks() {
    local program major
    for program in dockerd docker containerd; do
        command -v "$program" >/dev/null || { echo "$program is not installed; scripts/engines.sh tries a release that has it"; return; }
    done
    major=$(dockerd --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
    [ "${major:-0}" -ge 25 ] || echo "dockerd is older than 25; scripts/engines.sh tries a release that has it"
}

runtime_tier() { # TIER PREFIX WHY_NOT: the tests whose name starts so, of the files that start real containers
    local files
    mapfile -t files < <(tests 'runtimes*' hooks_d fault_runtime)
    if [ -z "$3" ]; then
        tier "$1" as_root cargo test -q --no-fail-fast "${files[@]}" -- --ignored "$2"
    else
        not_run "$1" "$3" "$(cargo test -q "${files[@]}" -- --ignored --list "$2" 2>/dev/null | grep -c ': test$')"
    fi
}

# The host's network, as text; what changes by itself is left out.
host_state() {
    "${root[@]}" nft -a list ruleset
    ip -d addr | sed 's/valid_lft.*//'
    ip -4 route
    ip -6 route | sed 's/ expires [0-9]*sec//'
    ls /run/netns 2>/dev/null
    "${root[@]}" sysctl -a -r '^net\.' 2>/dev/null | grep -v nf_conntrack_count
}

# --- The tiers ----------------------------------------------------------------------------------------------------

install_missing
command -v cargo >/dev/null || { echo "cargo is not installed: see https://rustup.rs"; echo "0 passed, 1 failed"; exit 1; }
lacks=$(kernel_lacks)
if [ -z "$lacks" ] && [ "${root[*]:-}" != false ]; then
    # The first use loads modules, which add files to /proc/sys/net. They are no change of ours.
    try unshare -n nft add table inet t '; add chain inet t c; add rule inet t c ct state new counter'
    host_state >"$logs/host-before"
fi

tier format cargo fmt --check
if cargo clippy --version >/dev/null 2>&1; then
    tier lints cargo clippy -q --all-targets -- -D warnings
else
    not_run lints "cargo clippy is not installed"
fi
tier docs env RUSTDOCFLAGS=-Dwarnings cargo doc -q --no-deps
tier unit cargo test -q --lib
pure=()
for file in tests/*.rs; do
    case $(basename "$file" .rs) in
    kernel* | packet* | hostile* | fault* | runtimes* | host* | cases | validation) ;;
    *) pure+=("$(basename "$file" .rs)") ;;
    esac
done
[ ${#pure[@]} -eq 0 ] || mapfile -t pure < <(tests "${pure[@]}")
[ ${#pure[@]} -eq 0 ] || tier laws cargo test -q --no-fail-fast "${pure[@]}"

# Reachability and validation cases that others wrote. They are no part of this project.
cases=${NETLATCH_CASES:-../shared/cases}
if [ -f "$cases/index.json" ]; then
    tier cases cargo test -q --no-fail-fast --test cases
    tier validation cargo test -q --test validation -- --ignored
else
    not_run cases "there is no $cases" 8
    not_run validation "there is no $cases" 2
fi

if command -v cc >/dev/null && [ -f /usr/include/linux/netfilter/nf_tables.h ]; then
    tier headers cargo test -q --test uapi -- --ignored
else
    not_run headers "no C compiler or no kernel headers (linux-libc-dev)"
fi

# Instructions of the hook's own work. What another compiler makes of it is no growth.
counted=$(sed -n '1s/^# //p' tests/counts/instructions.txt)
if ! command -v valgrind >/dev/null; then
    not_run counts "valgrind is not installed"
elif [ "$(rustc -V)" != "$counted" ]; then
    not_run counts "tests/counts/instructions.txt is of $counted, and this is $(rustc -V)"
else
    counts() { cargo build -q --example bench-counts && cargo test -q --test counts -- --ignored; }
    tier counts counts
fi

mapfile -t kernel < <(tests 'kernel*')
mapfile -t packets < <(tests 'packet*')
mapfile -t hostile < <(tests 'hostile*')
mapfile -t faults < <(tests 'fault*')
if [ -z "$lacks" ]; then
    # Files of other users, devices and mounts of procfs are beyond the root of a user namespace.
    beyond=()
    if [ "${root[*]:-}" = false ]; then
        beyond=(--skip as_the_hosts_root_)
        not_run kernel-root "needs root" "$(cat tests/kernel*.rs | grep -c '^fn as_the_hosts_root_')"
    fi
    # What kernel_bench.rs runs.
    cargo build -q --examples 2>"$logs/examples" || cat "$logs/examples"
    [ ${#kernel[@]} -eq 0 ] ||
        tier kernel as_root cargo test -q --no-fail-fast "${kernel[@]}" -- --include-ignored "${beyond[@]}"
    tier packets as_root cargo test -q --no-fail-fast "${packets[@]}"
    # Every bypass, first against rules that do not know it, then against ours.
    [ ${#hostile[@]} -eq 0 ] || tier hostile as_root cargo test -q --no-fail-fast "${hostile[@]}"
    [ ${#faults[@]} -eq 0 ] || tier fault as_root cargo test -q --no-fail-fast "${faults[@]}"
    # The same cases once more, with a network namespace and a start for each pod and real packets for each expectation.
    if [ -f "$cases/index.json" ]; then
        tier cluster as_root cargo test -q --test packet_policy_cases -- --ignored every_case
    else
        not_run cluster "there is no $cases"
    fi
else
    not_run cluster "$lacks"
    not_run kernel "$lacks"
    not_run packets "$lacks"
    not_run hostile "$lacks"
    not_run fault "$lacks"
fi

# What makes a program fail in tests is no part of what is installed: without debug assertions, which the release profile has
# not, the library compiles and does not know the variable. Only what a type check leaves is made, which takes seconds where a
# release build takes minutes; where there is one, it is looked at too. (The debug build shows that the name is found.)
triple=$(rustc -vV | sed -n 's/^host: //p')
release=target/$triple/release/netlatch
unarmed() {
    local made
    made=$(cargo rustc -q --lib --profile check --message-format json -- -C debug-assertions=off |
        sed -n 's/.*"filenames":\["\([^"]*\/libnetlatch-[^"]*\.rmeta\)".*/\1/p')
    [ -f "$made" ] && ! grep -q NETLATCH_FAULT "$made" || return
    ! grep -n debug-assertions Cargo.toml .cargo/config.toml || return
    [ ! -f "$release" ] || [ "$release" -ot src/kernel/checkpoint.rs ] || ! grep -q NETLATCH_FAULT "$release" || return
    grep -q NETLATCH_FAULT "target/$triple/debug/netlatch"
}
tier release unarmed

# The Debian package. cargo-deb takes two minutes to build, so it is installed where the tier is required and not else.
tools=$PWD/target/tools
PATH=$PATH:$tools/bin
if [[ " ${REQUIRE:-} " == *" package "* ]] && ! command -v cargo-deb >/dev/null; then
    # From /: this project's flags are not meant for it.
    (cd / && cargo install -q --locked --root "$tools" cargo-deb) >"$logs/cargo-deb" 2>&1 || cat "$logs/cargo-deb"
fi
if ! command -v cargo-deb >/dev/null; then
    not_run package "cargo-deb is not installed: cargo install --locked cargo-deb, or REQUIRE=package"
elif ! command -v dpkg >/dev/null; then
    not_run package "dpkg is not installed"
elif [ "${root[*]:-}" = false ]; then
    not_run package "needs root"
else
    tier package as_root cargo test -q --test package -- --ignored
fi

if [ "${root[*]:-}" = false ]; then
    runc="needs root" crun="needs root" youki="needs root" podman="needs root" containerd="needs root" docker="needs root"
else
    runc=${lacks:-$(runtime_lacks runc)} crun=${lacks:-$(runtime_lacks crun)}
    youki=${lacks:-$(youki_lacks)}
    podman=${runc:-${crun:-$(podman_lacks | head -n 1)}}
    containerd=${runc:-$(containerd_lacks)}
    docker=${runc:-$(docker_lacks)}
fi
cargo build -q --example prober 2>"$logs/prober" || cat "$logs/prober"
runtime_tier runc runc_ "$runc"
runtime_tier crun crun_ "$crun"
runtime_tier youki youki_ "$youki"
runtime_tier podman podman_ "$podman"
runtime_tier containerd containerd_ "$containerd"
runtime_tier docker docker_ "$docker"

# Last, so that its second half sees what every tier before it has left behind.
if [ -f "$logs/host-before" ]; then
    host_state >"$logs/host-after"
    unchanged() {
        as_root cargo test -q --test host
        local status=$?
        echo "what the host had before these tests and has no more:"
        sort "$logs/host-after" >"$logs/host-sorted"
        ! sort "$logs/host-before" | comm -23 - "$logs/host-sorted" | grep . && [ $status -eq 0 ]
    }
    tier host unchanged
else
    not_run host "${lacks:-needs root}"
fi

[ "$unrun" -eq 0 ] || echo "$unrun not run"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
