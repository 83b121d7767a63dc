#!/bin/sh
# Installs a built netlatch on a machine that needs no cargo, and takes it away again.
#
#   scripts/install.sh [OPTIONS] [BINARY]
#
#   --destdir DIR    a folder to take for /
#   --prefix DIR     where program, man page and completions go (default: /usr)
#   --uninstall      remove what this script installs; a configuration that was edited stays
#   --dry-run        say what would be done, and do nothing
#
# BINARY is the program; without it, one beside this script or the newest below target/. Hook files go where engines read
# them, whatever the prefix. Each file is renamed into place: an upgrade leaves no moment without it.
set -eu

destdir='' prefix=/usr action=install dry='' binary=''

usage() { sed -n '2,/^set -eu/{/^set -eu/!s/^# \{0,1\}//p;}' "$0"; }
fail() { echo "install.sh: $1" >&2; exit "${2:-1}"; }

while [ $# -gt 0 ]; do
    case $1 in
    --destdir | --prefix) [ $# -gt 1 ] || fail "$1 needs a folder" 2 ;;
    esac
    case $1 in
    --destdir) destdir=$2; shift ;;
    --destdir=*) destdir=${1#*=} ;;
    --prefix) prefix=$2; shift ;;
    --prefix=*) prefix=${1#*=} ;;
    --uninstall) action=uninstall ;;
    --dry-run) dry=--dry-run ;;
    --help | -h) usage; exit 0 ;;
    -*) fail "unknown option $1; see --help" 2 ;;
    *) [ -z "$binary" ] || fail "one binary, please" 2; binary=$1 ;;
    esac
    shift
done
case $prefix in /*) prefix=${prefix%/} ;; *) fail "--prefix needs an absolute path" 2 ;; esac

here=$(cd "$(dirname "$0")" && pwd)
program=$prefix/libexec/oci/hooks.d/netlatch
link=$prefix/bin/netlatch
man=$prefix/share/man/man1/netlatch.1
bash=$prefix/share/bash-completion/completions/netlatch
zsh=$prefix/share/zsh/site-functions/_netlatch
fish=$prefix/share/fish/vendor_completions.d/netlatch.fish
schema=$prefix/share/netlatch/config.schema.json
config=/etc/netlatch/config.yaml

# The newest of what was built.
built() {
    newest=''
    for found in "$here/netlatch" "$here"/../target/release/netlatch "$here"/../target/*/release/netlatch; do
        if [ ! -f "$found" ] || [ ! -x "$found" ]; then continue; fi
        # shellcheck disable=SC3013 # -nt is in every sh that is in use
        if [ -z "$newest" ] || [ "$found" -nt "$newest" ]; then newest=$found; fi
    done
    echo "$newest"
}

place() { # PATH MODE: puts stdin there
    if [ -n "$dry" ]; then
        cat >/dev/null
        echo "would write  $destdir$1"
        return
    fi
    mkdir -p "$destdir$(dirname "$1")"
    new="$destdir$(dirname "$1")/.$(basename "$1").new-$$"
    trap 'rm -f "$new"' EXIT
    cat >"$new"
    chmod "$2" "$new"
    [ ! -d "$destdir$1" ] || fail "$destdir$1 is a folder"
    mv -f "$new" "$destdir$1"
    trap - EXIT
    echo "wrote        $destdir$1"
}

remove() { # PATH
    [ -e "$destdir$1" ] || [ -h "$destdir$1" ] || return 0
    if [ -n "$dry" ]; then
        echo "would remove $destdir$1"
    else
        rm -f "$destdir$1"
        echo "removed      $destdir$1"
    fi
}

generate() { # PATH ARGUMENTS...: what the program prints
    to=$1
    shift
    text=$("$binary" "$@") || fail "$binary $* failed"
    printf '%s\n' "$text" | place "$to" 644
}

# Editors find the schema by its first line.
configuration() { sed "1s|/usr/share|$prefix/share|" "$here/config.yaml"; }

install_all() {
    [ -n "$binary" ] || binary=$(built)
    [ -n "$binary" ] || fail "no binary given, none beside this script and none below target/: cargo build --release"
    case $binary in /*) ;; *) binary=$PWD/$binary ;; esac
    "$binary" --version >/dev/null || fail "$binary does not run here"
    # The program first: podman passes over a hook file without it, in silence.
    place "$program" 755 <"$binary"
    set -- install hooks.d --path "$program" $dry
    [ -z "$destdir" ] || set -- "$@" --destdir "$destdir"
    "$binary" "$@"
    if [ -n "$dry" ]; then
        echo "would write  $destdir$link -> $program"
    else
        mkdir -p "$destdir$(dirname "$link")"
        ln -s "$program" "$destdir$link.new-$$"
        mv -f "$destdir$link.new-$$" "$destdir$link"
        echo "wrote        $destdir$link"
    fi
    generate "$man" man
    generate "$bash" completions bash
    generate "$zsh" completions zsh
    generate "$fish" completions fish
    generate "$schema" schema config
    if [ -e "$destdir$config" ] || [ -h "$destdir$config" ]; then
        echo "unchanged    $destdir$config"
    else
        configuration | place "$config" 644
    fi
}

uninstall_all() {
    status=0
    # The program knows its hook files from those that somebody changed, and stays where one of these calls it.
    if [ -x "$destdir$program" ]; then
        set -- uninstall --path "$program" $dry
        [ -z "$destdir" ] || set -- "$@" --destdir "$destdir"
        "$destdir$program" "$@" || status=$?
        [ "$status" -le 1 ] || exit "$status"
    fi
    if [ "$status" -eq 0 ]; then
        for path in "$link" "$man" "$bash" "$zsh" "$fish" "$schema"; do remove "$path"; done
        [ -n "$dry" ] || rmdir "$destdir${schema%/*}" 2>/dev/null || true
    fi
    if configuration | cmp -s - "$destdir$config"; then
        remove "$config"
    elif [ -e "$destdir$config" ]; then
        echo "left alone   $destdir$config: it was edited"
    fi
    exit "$status"
}

"${action}_all"
