volume={{ pair.volume.mount_point|sh }}
device={{ pair.volume.device|sh }}

# Calls "$1" with every folder and its place on the volume.
each_folder() {
{% for one in moved %}
    "$1" {{ one.folder|sh }} "$volume"/{{ one.place|sh }}
{% else %}
    :
{% endfor %}
}

stop_services() {
{% for unit in units|reverse %}
    stop {{ unit|sh }}
{% else %}
    :
{% endfor %}
}

stop() {
    say "stopping $1"
    if [ -d /run/systemd/system ]; then
        systemctl stop "$1"
    else
        service "$1" stop
    fi
}

# The process, if any, that has a file open below the folder: what was started by hand is not stopped by a service.
user_of() {
    on=$(stat -c %d "$1")
    find /proc/[0-9]*/fd -lname "$1/*" 2>/dev/null | while read -r fd; do
        [ "$(stat -Lc %d "$fd" 2>/dev/null)" != "$on" ] || { echo "$fd" | cut -d/ -f3; break; }
    done
}

refuse_used() {
    [ -d "$1" ] && [ ! -L "$1" ] || return 0
    pid=$(user_of "$1")
    [ -z "$pid" ] || refuse "process $pid ($(cat "/proc/$pid/comm" 2>/dev/null)) still has files open in $1: stop it"
}

# A folder of its own: no mount at it or below, which would neither move nor be copied as what it is.
refuse_unmovable() {
    [ -d "$1" ] || refuse "$1 is no folder"
    at=$(awk -v at="$1" '$5 == at || index($5, at "/") == 1 { print $5; exit }' /proc/self/mountinfo)
    [ -z "$at" ] || refuse "something is mounted at $at: unmount it, or leave $1 out of pair.toml"
}

refuse_other_link() {
    [ "$(readlink "$1")" = "$2" ] || refuse "$1 is a link to $(readlink "$1"), not to $2"
}

is_mounted_here() {
    [ "$(findmnt -rnv -o SOURCE -M "$volume" | tail -n 1)" = "$device" ]
}

# Names for what is set aside: NAME, NAME.2, NAME.3, the last one the newest. Nothing that is set aside is deleted.
free_name() {
    name=$1 number=1
    while [ -e "$name" ] || [ -L "$name" ]; do
        number=$((number + 1)) name=$1.$number
    done
    printf '%s\n' "$name"
}

newest() {
    name=$1 number=1 found=
    while [ -e "$name" ]; do
        found=$name number=$((number + 1)) name=$1.$number
    done
    printf '%s\n' "$found"
}

# A copy with owners, modes, times, ACLs, attributes and hard links. It has its name once it is whole and on the disk.
copy() {
    say "copying $1 to $2"
    rm -rf --one-file-system "$2" "$2.unfinished"
    mkdir -p "${2%/*}"
    cp -a "$1" "$2.unfinished"
    sync -f "$2.unfinished"
    mv -T "$2.unfinished" "$2"
}

# Whether "$2" has room for "$1" and for all that was asked for before.
needed=0
enough_room() {
    needed=$((needed + $(du -skx "$1" | cut -f1)))
    free=$(df -Pk "$2" | awk 'NR == 2 { print $4 }')
    [ "$needed" -lt "$free" ] || refuse "$1 needs more room: $needed KiB with what comes before it, and $2 has $free KiB"
}

todo=0
