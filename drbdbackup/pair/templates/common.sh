set -eu
umask 022
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

say() {
    printf '%s\n' "$*"
}

refuse() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

undo=
case $#:${1-} in
0:) ;;
1:--undo) undo=yes ;;
*) refuse "usage: ${0##*/} [--undo]" ;;
esac
[ "$(id -u)" = 0 ] || refuse "only root can do this"
cd /
