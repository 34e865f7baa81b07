#!/usr/bin/env bash
# Start or stop a cluster of one machine: munge, Slurm, and a database for jobflow-remote. All of
# it lies in one folder (with a short name, as sockets are in it), and runs as whoever starts it.
#
#     single_node.sh start FOLDER
#     single_node.sh stop FOLDER
#
# Needs the Debian packages munge and slurm-wlm and, in the active Python environment,
# "diffrelax[hpc]" and SecantusDB (or a MongoDB server at $DATABASE_PORT).
set -euo pipefail
clusters=$(dirname "$(realpath "$0")")
verb=$1
folder=$(realpath -m "$2")
projects=${JFREMOTE_PROJECTS_FOLDER:-$HOME/.jfremote}
port=${DATABASE_PORT:-27017}
export PATH=$PATH:/usr/sbin SLURM_CONF=$folder/slurm.conf

# copy a file with the values of this machine in place of {names}
fill() {
    sed -e "s#{folder}#$folder#g" -e "s#{user}#$(id -un)#g" -e "s#{cpus}#$(nproc --all)#g" \
        -e "s#{memory}#$(awk '/MemTotal/ {print int($2 / 1024 * 0.9)}' /proc/meminfo)#g" \
        -e "s#{controller_port}#${CONTROLLER_PORT:-6817}#g" \
        -e "s#{node_port}#${NODE_PORT:-6818}#g" -e "s#{port}#$port#g" \
        -e "s#{python}#$(dirname "$(command -v jf)")#g" "$clusters/$1" >"$2"
}

# repeat a command until it succeeds, for half a minute
await() {
    for _ in $(seq 150); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    echo "no answer from: $*; see the logs in $folder" >&2
    exit 1
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; }
is_idle() { sinfo --noheader | grep -q idle; }
is_empty() { [ -z "$(squeue --noheader)" ]; }
is_gone() { ! kill -0 "$1"; }

start() {
    mkdir -p "$folder"/{state,spool,jobs,database,munge} "$projects"
    chmod 700 "$folder/munge"
    fill slurm.conf "$SLURM_CONF"
    fill cgroup.conf "$folder/cgroup.conf"
    fill single_node.yaml "$projects/single_node.yaml"

    # munge signs the messages of Slurm with a key
    [ -f "$folder/munge/key" ] || mungekey --create --keyfile="$folder/munge/key"
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge.socket" \
        --pid-file="$folder/munged.pid" --log-file="$folder/munge/log" \
        --seed-file="$folder/munge/seed"

    # first the controller, then the node
    slurmctld
    await scontrol ping
    slurmd -N localhost
    await is_idle

    if answers; then
        echo "the database at port $port is used; if it is new, make its queues with" \
            "jf -p single_node admin reset, which also empties those of an old one"
    else
        nohup secantusd-py --host 127.0.0.1 --port "$port" --storage-path "$folder/database" \
            --cache-size 256M >"$folder/database.log" 2>&1 </dev/null &
        echo $! >"$folder/database.pid"
        await answers
        # make the queues in it, once: this would also empty them
        [ -f "$folder/reset" ] || jf -p single_node admin reset -y
        touch "$folder/reset"
    fi
}

stop() {
    scancel --user "$(id -un)" || true
    await is_empty
    for daemon in slurmd slurmctld munged database; do
        pid=$(cat "$folder/$daemon.pid" 2>/dev/null) || continue
        if kill "$pid" 2>/dev/null; then await is_gone "$pid"; fi
        rm -f "$folder/$daemon.pid"
    done
}

"$verb"
