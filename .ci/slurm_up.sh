#!/usr/bin/env bash
# A SLURM of one node, without systemd, for tests and trials: slurm_up.sh DIR [JOBS_A_CORE]; slurm_down.sh DIR ends it.
# All state lies in DIR (keys, database, spool, logs, pids), ports are free ones, and a munged of its own runs beside the
# machine's. slurmdbd is not a luxury: submitit asks `sacct` about a job that died without a word, and waits for ever
# where accounting is off. Debian: apt-get install --no-install-recommends slurm-wlm munge slurmdbd mariadb-server
set -euo pipefail

fail() { echo "slurm_up: $*" >&2; exit 1; }
[ $# -ge 1 ] || fail 'usage: slurm_up.sh DIR [JOBS_A_CORE]'
D=$(realpath -m "$1")
SHARE=${2:-1}
HERE=$(dirname "${BASH_SOURCE[0]}")
PATH=$PATH:/usr/sbin:/sbin

[ "$(id -u)" -eq 0 ] || fail 'needs root: slurmd starts jobs as other users'
missing=()
for pair in slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm munged:munge slurmdbd:slurmdbd mariadbd:mariadb-server python3:python3; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
done
[ "${#missing[@]}" -eq 0 ] || fail "missing packages: $(printf '%s\n' "${missing[@]}" | sort -u | xargs)"
[ "${#D}" -le 80 ] || fail "the path $D is ${#D} characters long; sockets below it need 80 at most"
[[ $D != *[[:space:]]* ]] || fail "the path '$D' holds white space, which slurm.conf cannot"
case $SHARE in '' | *[!0-9]* | 0) fail "JOBS_A_CORE is '$SHARE'; give a whole number from 1 on" ;; esac
for pid in "$D"/pids/*.pid; do
  if [ -s "$pid" ] && kill -0 "$(cat "$pid")" 2>/dev/null; then fail "already up in $D; end it with slurm_down.sh $D"; fi
done

rm -rf "$D"/{ctld,spool,db,munge,pids,log}
mkdir -p "$D"/{ctld,spool,db,munge,pids,log}
# From here on a failure leaves nothing running.
trap 'status=$?; if [ $status -ne 0 ]; then tail -n 3 "$D"/log/*.log >&2 || true; "$HERE/slurm_down.sh" "$D" >&2 || true; fi' EXIT

# Below the range the kernel hands out by itself, so that no client of anything takes a port before its daemon does.
read -r CTLD_PORT SLURMD_PORT DBD_PORT < <(python3 - <<'P'
import random, socket
held = []
while len(held) < 3:
    try:
        held.append(socket.create_server(("", random.randrange(20000, 32000))))
    except OSError:
        pass
print(*(server.getsockname()[1] for server in held))
P
)
HOST=$(hostname -s)
read -r CPUS MEM < <(slurmd -C | sed -nE 's/.*CPUs=([0-9]+).*RealMemory=([0-9]+).*/\1 \2/p')

# cred_expire=5: a requeued job starts at once instead of after two minutes.
cat > "$D/slurm.conf" <<C
ClusterName=ci
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$CTLD_PORT
SlurmdPort=$SLURMD_PORT
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$D/munge/socket,cred_expire=5
StateSaveLocation=$D/ctld
SlurmdSpoolDir=$D/spool
SlurmctldPidFile=$D/pids/slurmctld.pid
SlurmdPidFile=$D/pids/slurmd.pid
SlurmctldLogFile=$D/log/slurmctld.log
SlurmdLogFile=$D/log/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=$DBD_PORT
AccountingStoragePass=$D/munge/socket
SchedulerParameters=batch_sched_delay=1,sched_min_interval=100000
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
MailProg=$(command -v true)
ReturnToService=2
JobRequeue=1
KillWait=10
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$((MEM > 2048 ? MEM - 1024 : MEM)) State=UNKNOWN
PartitionName=main Nodes=$HOST Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:$SHARE
C
(
  umask 077
  cat > "$D/slurmdbd.conf" <<C
AuthType=auth/munge
AuthInfo=socket=$D/munge/socket
DbdHost=$HOST
DbdAddr=127.0.0.1
DbdPort=$DBD_PORT
SlurmUser=root
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
LogFile=$D/log/slurmdbd.log
PidFile=$D/pids/slurmdbd.pid
C
  head -c 128 /dev/urandom > "$D/munge/key"
)
export SLURM_CONF=$D/slurm.conf MYSQL_UNIX_PORT=$D/db.sock  # slurmdbd.conf is read beside SLURM_CONF

# Waits for a condition: what it is, then the command; tries every 0.2 s for 30 s.
wait_for() {
  local what=$1 end=$((SECONDS + 30))
  shift
  while [ "$SECONDS" -lt "$end" ]; do
    if timeout 5 "$@" >/dev/null 2>&1; then return; fi
    sleep 0.2
  done
  fail "no $what within 30 s; see $D/log"
}

# --force: DIR may be a private folder, which munged dislikes and root does not mind. No daemon may hold our standard
# output, or whoever reads it through a pipe waits for the daemon.
munged --force --socket="$D/munge/socket" --key-file="$D/munge/key" --pid-file="$D/pids/munged.pid" \
  --seed-file="$D/munge/seed" --log-file="$D/log/munged.log" </dev/null >/dev/null 2>&1
mariadb-install-db --no-defaults --user=root --datadir="$D/db" --skip-test-db </dev/null >"$D/log/db-install.log" 2>&1
setsid mariadbd --no-defaults --user=root --datadir="$D/db" --socket="$D/db.sock" --pid-file="$D/pids/mariadbd.pid" \
  --skip-networking --innodb-buffer-pool-size=64M </dev/null >"$D/log/mariadbd.log" 2>&1 &
wait_for 'answer from mariadbd' mariadb --no-defaults -S "$D/db.sock" -e 'create database if not exists slurm_acct_db'
slurmdbd </dev/null >/dev/null 2>&1
wait_for 'answer from slurmdbd' sacctmgr -n list cluster
sacctmgr -i add cluster ci >/dev/null 2>&1 || true  # slurmctld registers itself where this came too late
slurmctld </dev/null >/dev/null 2>&1
slurmd </dev/null >/dev/null 2>&1
wait_for 'idle node' bash -c 'sinfo -h -o %T | grep -qx idle'
echo "SLURM is up: $CPUS CPUs, $SHARE job(s) a core"
echo "export SLURM_CONF=$D/slurm.conf"
