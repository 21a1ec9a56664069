#!/bin/bash
# A real Slurm of two nodes, n1 and n2, on one Linux machine, for tests/flows/test_slurm_real.py:
#
#     apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#     tests/slurm/cluster.sh up       as root; prints `sinfo`
#     tests/slurm/cluster.sh down
#
# A node is a slurmd in namespaces of its own: network, host name, processes and mounts, with its own /tmp/ray and
# /dev/shm. Without a process namespace `ray stop` of one node would end the Ray of the other.
set -euo pipefail
folder=/var/lib/aai-slurm
config=/etc/slurm/slurm.conf
bridge=aai-slurm
subnet=10.79.0

write_config() {
    [ -f "$config" ] && ! grep -q "^ClusterName=aai-test" "$config" && cp "$config" "$config.before"
    cat > "$config" <<CONF
ClusterName=aai-test
SlurmctldHost=$(hostname)($subnet.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that is queued again starts once its credential has expired, by default after two minutes.
AuthInfo=cred_expire=5
StateSaveLocation=$folder/ctld
SlurmctldPidFile=$folder/slurmctld.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdSpoolDir=$folder/%n
SlurmdPidFile=$folder/%n/slurmd.pid
SlurmdLogFile=$folder/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
JobCompType=jobcomp/filetxt
JobCompLoc=$folder/jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=bf_interval=5,sched_interval=5
KillWait=30
NodeName=n1 NodeAddr=$subnet.11 NodeHostname=n1 CPUs=2 RealMemory=8000
NodeName=n2 NodeAddr=$subnet.12 NodeHostname=n2 CPUs=2 RealMemory=8000
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
CONF
    mkdir -p "$folder/ctld"
    printf '127.0.0.1 localhost\n%s\n' "$subnet.1 $(hostname)" "$subnet.11 n1" "$subnet.12 n2" > "$folder/hosts"
}

add_network() {
    ip link show "$bridge" > /dev/null 2>&1 || ip link add "$bridge" type bridge
    ip address replace "$subnet.1/24" dev "$bridge"
    ip link set "$bridge" up
    for number in 1 2; do
        ip netns list | grep -q "^aai-n$number" && continue
        ip netns add "aai-n$number"
        ip link add "aai-v$number" type veth peer name eth0 netns "aai-n$number"
        ip link set "aai-v$number" master "$bridge" up
        ip -n "aai-n$number" address add "$subnet.1$number/24" dev eth0
        ip -n "aai-n$number" link set eth0 up
        ip -n "aai-n$number" link set lo up
    done
}

start_munge() {
    munge -n > /dev/null 2>&1 && return
    mkdir -p /run/munge
    chown munge /run/munge
    [ -f /etc/munge/munge.key ] || mungekey --create
    chown munge /etc/munge/munge.key
    runuser -u munge -- munged --force
}

start_node() { # name, network namespace
    mkdir -p "$folder/$1/ray" /tmp/ray
    nsenter --net="/run/netns/$2" setsid unshare --uts --pid --fork --kill-child --mount --mount-proc bash -c "
        hostname $1
        mount --bind $folder/hosts /etc/hosts
        mount --bind $folder/$1/ray /tmp/ray
        mount -t tmpfs -o size=1G tmpfs /dev/shm
        exec slurmd -D -N $1" > /dev/null 2>&1 < /dev/null &
    echo $! > "$folder/$1/node.pid"
}

up() {
    write_config
    add_network
    start_munge
    scontrol ping 2> /dev/null | grep -q UP || slurmctld
    for number in 1 2; do
        kill -0 "$(cat "$folder/n$number/node.pid" 2> /dev/null)" 2> /dev/null || start_node "n$number" "aai-n$number"
    done
    for _ in $(seq 30); do
        sinfo --noheader --states=idle --format=%D 2> /dev/null | grep -q 2 && break
        sleep 1
    done
    sinfo
}

down() { # ends what `up` started, by its numbers; munged stays
    for name in n1 n2; do
        # `unshare` ignores SIGTERM; with it all processes of the node end.
        [ -f "$folder/$name/node.pid" ] && kill -KILL "$(cat "$folder/$name/node.pid")" 2> /dev/null || true
    done
    [ -f "$folder/slurmctld.pid" ] && kill "$(cat "$folder/slurmctld.pid")" 2> /dev/null || true
    sleep 2
    for number in 1 2; do ip netns delete "aai-n$number" 2> /dev/null || true; done
    ip link delete "$bridge" 2> /dev/null || true
    [ -f "$config.before" ] && mv "$config.before" "$config" || rm -f "$config"
    rm -rf "$folder"
}

case "${1:-}" in
    up) up ;;
    down) down ;;
    *) sed -n '2,6p' "$0"; exit 2 ;;
esac
