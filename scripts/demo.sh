#!/usr/bin/env bash
# Shows what Netlatch does: starts a real runc container through the hook, lets it try what it may and may not do, and
# prints the rules and their price. Everything is thrown away at the end; nothing is installed but missing packages.
#
#   ./scripts/demo.sh                   needs cargo, and root or sudo
#   NETLATCH=/path/to/netlatch ...      a binary that is already there instead of building one
set -eu
cd "$(dirname "$0")/.."
PATH=$PATH:/usr/sbin:/sbin

EGRESS='tcp/10.9.1.1:80, 10.9.2.0/24:443, @internet:443, !1.1.1.1'
RUNS=${RUNS:-31}

if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'; else bold='' dim='' green='' red='' plain=''; fi
heading() { printf '\n%s== %s%s\n\n' "$bold" "$1" "$plain"; }
note() { printf '%s%s%s\n' "$dim" "$1" "$plain"; }
indent() { sed 's/^/   /'; }
die() { echo "demo.sh: $1" >&2; exit 1; }

# --- Build as the user who called, then become root -----------------------------------------------------------------

if [ -z "${NETLATCH:-}" ]; then
    command -v cargo >/dev/null || die "cargo is missing; see https://rustup.rs"
    # A Rust program is linked by cc, which a machine with nothing but cargo may lack; with musl it starts sooner, see
    # scripts/build.rs.
    build=()
    command -v cc >/dev/null || build+=(gcc libc6-dev)
    [ -f "/usr/lib/$(uname -m)-linux-musl/libc.a" ] || build+=(musl-dev)
    if [ ${#build[@]} -gt 0 ] && command -v apt-get >/dev/null; then
        note "installing ${build[*]}"
        if [ "$(id -u)" -eq 0 ]; then as_root=(env); else as_root=(sudo); fi
        "${as_root[@]}" apt-get -qq update && "${as_root[@]}" apt-get -qq install -y "${build[@]}" >/dev/null ||
            note "not installed: ${build[*]}"
    fi
    note "building the release binary (some minutes the first time)"
    cargo build --release --quiet --bin netlatch
    target=$(rustc -vV | sed -n 's/^host: //p')
    NETLATCH=${CARGO_TARGET_DIR:-$PWD/target}/$target/release/netlatch
fi
[ -x "$NETLATCH" ] || die "$NETLATCH is not there"
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "root is needed to make namespaces; run this as root"
    exec sudo NETLATCH="$NETLATCH" RUNS="$RUNS" "$PWD/scripts/demo.sh"
fi

missing=()
for need in runc:runc busybox:busybox-static nft:nftables ip:iproute2 nsenter:util-linux; do
    command -v "${need%%:*}" >/dev/null || missing+=("${need##*:}")
done
if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || die "please install: ${missing[*]}"
    note "installing ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    { apt-get -qq update && apt-get -qq install -y --no-install-recommends "${missing[@]}"; } >/dev/null 2>&1 ||
        die "apt-get could not install: ${missing[*]}"
    hash -r
fi

# --- A bundle, a network namespace, and something to reach on the other side -----------------------------------------

dir=$(mktemp -d)
chmod 755 "$dir"
id=netlatch-demo-$$
holders=()
# shellcheck disable=SC2329  # called by the trap
cleanup() {
    trap - EXIT INT TERM
    runc --root "$dir/runc" delete --force "$id" >/dev/null 2>&1 || true
    for pid in "${holders[@]}"; do kill "$pid" 2>/dev/null || true; done
    wait 2>/dev/null || true
    rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

namespace() { # sets $holder: a process in a fresh network namespace that has no name and dies with it
    # The parent-death signal covers the one end that no trap can: SIGKILL.
    setpriv --pdeathsig KILL unshare --net sleep 3600 </dev/null >/dev/null 2>&1 &
    holder=$!
    disown "$holder"
    holders+=("$holder")
    while [ "$(readlink "/proc/$holder/ns/net")" = "$(readlink /proc/self/ns/net)" ]; do sleep 0.001; done
}
inside() { local pid=$1; shift; nsenter --net="/proc/$pid/ns/net" "$@"; }

namespace; far=$holder
namespace; ctr=$holder
# The far side owns every address there is ("local" default route) and serves HTTP on ports 80 and 443.
inside "$far" ip -batch - <<END
link add eth0 type veth peer name eth0 netns $ctr
link set lo up
addr add 10.9.0.1/32 dev eth0
addr add fd99::1/64 dev eth0 nodad
link set eth0 up
route add 10.9.0.2/32 dev eth0
route add local 0.0.0.0/0 dev lo table main
route add local ::/0 dev lo table main
END
inside "$ctr" ip -batch - <<END
addr add 10.9.0.2/16 dev eth0
addr add fd99::2/64 dev eth0 nodad
link set eth0 up
route add default via 10.9.0.1
route add default via fd99::1
END
mkdir "$dir/www"
echo hello >"$dir/www/index.html"
for port in 80 443; do
    # Not by inside(): a function in the background is a shell, and killing it would leave the server behind.
    setpriv --pdeathsig KILL nsenter --net="/proc/$far/ns/net" busybox httpd -f -p "$port" -h "$dir/www" \
        </dev/null >/dev/null 2>&1 &
    holders+=($!)
    disown $!
done
# What the far side hears of forbidden destinations: the proof is there, not in what the container says.
inside "$far" nft -f - <<END
table inet heard { chain arrivals { type filter hook prerouting priority -300
    ip daddr { 10.9.9.9, 1.1.1.1, 169.254.169.254 } counter
    ip6 daddr { 2001:db8::9, fd00:ec2::254 } counter
}; }
END

mkdir -p "$dir/rootfs/bin" "$dir/rootfs/proc" "$dir/rootfs/sys" "$dir/rootfs/dev" "$dir/run"
cp "$(command -v busybox)" "$dir/rootfs/bin/busybox"
for applet in sh nc ip cat cut sysctl true awk; do ln -s busybox "$dir/rootfs/bin/$applet"; done
: >"$dir/netlatch.yaml"
cat >"$dir/rootfs/probe" <<'END'
#!/bin/sh
now() { cut -d ' ' -f 1 /proc/uptime; }
try() {
    start=$(now)
    # nc and not wget: Debian's static busybox crashes where it asks glibc for a service name.
    if said=$(printf 'GET / HTTP/1.0\r\n\r\n' | nc -w 2 "$1" "$2" 2>&1); then said=reached; else
        case $said in
        *refused*) said='refused at once' ;;
        *"timed out"* | '') said='no answer' ;;
        *unreachable* | *"assign requested"*) said='no way there' ;;
        esac
    fi
    printf '%-16s %4s  %-32s %-16s %s\n' "$1" "$2" "$3" "$said" \
        "$(awk -v a="$start" -v b="$(now)" 'BEGIN { printf "%.2f s", b - a }')"
}
try 10.9.9.9          80 "not on the list"
try 169.254.169.254   80 "metadata service, always denied"
try 1.1.1.1          443 "denied by !1.1.1.1"
try 10.9.1.1         443 "right address, wrong port"
try 2001:db8::9       80 "IPv6 is off"
try 10.9.1.1          80 "allowed: tcp/10.9.1.1:80"
try 10.9.2.77        443 "allowed: 10.9.2.0/24:443"
try 9.9.9.9          443 "allowed: @internet:443"
echo
echo '$ ip addr'
ip addr
echo
echo '$ sysctl net.ipv6.conf.{all,default,lo,eth0}.disable_ipv6'
for name in all default lo eth0; do sysctl net.ipv6.conf.$name.disable_ipv6; done
END
chmod 755 "$dir/rootfs/probe"

hook() { # STAGE: its entry in config.json
    printf '"%s": [{"path": "%s", "args": ["netlatch", "%s", "--config", "%s", "--run-dir", "%s"], "timeout": 30}]' \
        "$1" "$NETLATCH" "$1" "$dir/netlatch.yaml" "$dir/run"
}
annotations() {
    printf '{"io.netlatch.egress": "%s", "io.netlatch.ingress": "none", "io.netlatch.ipv6": "disable"}' "$EGRESS"
}
config() { # HOOKS PROGRAM [NETNS]: config.json
    local path=''
    [ -z "${3:-}" ] || path=", \"path\": \"$3\""
    cat >"$dir/config.json" <<END
{
  "ociVersion": "1.0.2",
  "process": {"cwd": "/", "args": ["$2"], "env": ["PATH=/bin"], "user": {"uid": 0, "gid": 0}, "noNewPrivileges": true,
              "capabilities": {"bounding": [], "effective": [], "permitted": []}},
  "root": {"path": "rootfs", "readonly": true},
  "mounts": [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["ro", "nosuid", "nodev", "noexec"]},
    {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]}
  ],
  "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}, {"type": "uts"},
                           {"type": "network"$path}]},
  "annotations": $(annotations),
  "hooks": {$1}
}
END
}
all_hooks="$(hook createRuntime), $(hook poststart), $(hook poststop)"
run() { runc --root "$dir/runc" run --bundle "$dir" "$id" </dev/null; }
state() { # PID: what runc writes to the hook's standard input
    printf '{"ociVersion": "1.0.2-dev", "id": "%s", "status": "creating", "pid": %s, "bundle": "%s", "annotations": %s}\n' \
        "$id" "$1" "$dir" "$(annotations)"
}

# --- The show ---------------------------------------------------------------------------------------------------------

heading "What the operator writes"
cat <<END
   io.netlatch.egress  = $EGRESS
   io.netlatch.ingress = none
   io.netlatch.ipv6    = disable
END

heading "What the container can do (a runc container; this is its first process)"
config "$all_hooks" /probe "/proc/$ctr/ns/net"
if ! run >"$dir/said" 2>&1; then
    indent <"$dir/said"
    die "the container did not start; the line above says why"
fi
sed "s/reached /${green}reached${plain} /; s/refused at once/${red}refused at once${plain}/; s/no way there/${red}no way there${plain}/" \
    "$dir/said" | indent

heading "What arrived on the other side for the denied addresses"
inside "$far" nft list table inet heard | grep counter | sed 's/^[[:space:]]*//' | indent

heading "The rules, as nft prints them from outside"
inside "$ctr" nft list table inet netlatch | indent

heading "The same, planned from the state alone: netlatch plan --state FILE"
state "$ctr" >"$dir/state.json"
"$NETLATCH" plan --state "$dir/state.json" --config "$dir/netlatch.yaml" | indent

heading "Kubernetes policy: who reaches whom, and a set that follows who comes and goes"
mkdir -p "$dir/policies" "$dir/peers"
cat >"$dir/policies/db.yaml" <<END
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: web}}}]
    ports: [{port: 5432}]
END
indent <"$dir/policies/db.yaml"
pod() { # NAME ADDRESS
    printf 'apiVersion: v1\nkind: Pod\nmetadata: {name: %s, namespace: shop, labels: {app: %s}}\nstatus: {podIPs: [{ip: %s}]}\n---\n' "$1" "$1" "$2"
}
{ pod db 10.1.0.1; pod web 10.1.0.2; pod mail 10.1.0.3; } >"$dir/peers/pods.yaml"
echo
echo "   \$ netlatch reach -f policies peers"
"$NETLATCH" reach -f "$dir/policies" "$dir/peers" | indent
echo
echo "   \$ netlatch explain -f policies peers --from shop/mail --to shop/db --port 5432"
"$NETLATCH" explain -f "$dir/policies" "$dir/peers" --from shop/mail --to shop/db --port 5432 | sed "s|$dir/||g" | indent
echo "policies: $dir/policies" >"$dir/policy.yaml"
member() { # STAGE NAME PID
    printf '{"ociVersion": "1.0.2", "id": "%s", "pid": %s, "annotations": {"io.netlatch.namespace": "shop", "io.netlatch.labels": "app=%s"}}' \
        "$2" "$3" "$2" | "$NETLATCH" "$1" --config "$dir/policy.yaml" --run-dir "$dir/run-policy"
}
namespace; db=$holder
namespace; web=$holder
inside "$web" ip -batch - <<<'link add eth0 type veth peer name peer0
addr add 10.1.0.2/24 dev eth0'
admitted() { # WHEN: who may connect to db
    local who
    who=$(inside "$db" nft list set inet netlatch ingress_network_1_v4 | sed -n 's/.*elements = //p')
    echo "   $1: ${who:-nobody}"
}
echo
echo "   Who may connect to a running db (hooks called by hand):"
member createRuntime db "$db"
admitted 'db alone       '
member createRuntime web "$web"
admitted 'web has started'
# Runtimes call poststop behind the end of the process; one that goes on would be of another container with its id.
kill "$web"
while [ -e "/proc/$web" ]; do sleep 0.01; done
unset 'holders[-1]'
member poststop web "$web"
admitted 'web has stopped'
member poststop db "$db"

# --- The price --------------------------------------------------------------------------------------------------------

heading "What it costs (medians of $RUNS runs, each in a fresh namespace)"
# Wall-clock time from before fork to after exit, in microseconds, so a shell's fork is in every figure.
clock() { local start=${EPOCHREALTIME/./}; "$@"; took=$((${EPOCHREALTIME/./} - start)); }
median() { sort -n | awk '{ all[NR] = $1 } END { printf "%.2f ms\n", all[int((NR + 1) / 2)] / 1000 }'; }
hook_once() { "$NETLATCH" createRuntime --config "$dir/netlatch.yaml" --run-dir "$dir/run" <"$dir/state.$1"; }
nft_once() { nsenter --net="/proc/$1/ns/net" nft -f "$dir/rules.nft"; }
static_once() { busybox true; }
run_bare() { config "" /bin/true; clock run; }
run_hooked() { config "$all_hooks" /bin/true; clock run; }
row() { printf '   %-58s %s\n' "$1" "$(median <"$dir/times.$2")"; }

# All namespaces before the first measurement: making and destroying one holds locks that the next would wait for.
first=${#holders[@]}
for _ in $(seq $((2 * RUNS))); do
    namespace
    state "$holder" >"$dir/state.$holder"
done
"$NETLATCH" plan --state "$dir/state.json" --config "$dir/netlatch.yaml" --format nft |
    tail -n +3 >"$dir/rules.nft" # without the two lines that replace a table: waiting for the old one would be counted too
sleep 0.2
for i in $(seq 0 $((RUNS - 1))); do
    clock static_once; echo "$took" >>"$dir/times.static"
    clock hook_once "${holders[first + 2 * i]}"; echo "$took" >>"$dir/times.hook"
    clock nft_once "${holders[first + 2 * i + 1]}"; echo "$took" >>"$dir/times.nft"
done
for _ in $(seq $((RUNS / 2))); do
    run_bare >/dev/null; echo "$took" >>"$dir/times.bare"
    run_hooked >/dev/null; echo "$took" >>"$dir/times.hooked"
done
row "a static program that does nothing" static
row "the hook, exec to exit" hook
row "nft -f with the same rules (and nsenter to get there)" nft
row "runc run of /bin/true without the hook" bare
row "runc run of /bin/true with the hook at its three stages" hooked
echo
note "The container, its namespaces and files are gone now. src/docs/engines.md says how to use this with runc, podman, containerd."
