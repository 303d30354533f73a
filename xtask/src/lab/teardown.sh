# Ends one lab: $1 is its folder, $2 the prefix of its namespaces. Touches nothing else, and may run twice.
dir=$1
prefix=$2
PATH=$PATH:/usr/sbin:/sbin
spaces=$(ip netns list 2>/dev/null | cut -d' ' -f1 | grep "^$prefix-" || true)
# Whatever runs in a namespace of the lab was started by the lab.
for space in $spaces; do
    for pid in $(ip netns pids "$space" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null; done
done
# The recorded ones too, unless the number has gone to another process since (field 22: start time).
if [ -f "$dir/pids" ]; then
    while read -r pid start name; do
        now=$(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f20)
        if [ -n "$now" ] && [ "$now" = "$start" ]; then kill -KILL "$pid" 2>/dev/null; fi
    done <"$dir/pids"
fi
for space in $spaces; do ip netns del "$space" 2>/dev/null; done
rm -rf "$dir"
exit 0
