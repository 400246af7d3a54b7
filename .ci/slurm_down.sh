#!/usr/bin/env bash
# Ends the SLURM that slurm_up.sh started in DIR: its jobs, then its daemons, each by its own pid. Only the logs stay.
set -euo pipefail
[ $# -eq 1 ] || { echo 'slurm_down: usage: slurm_down.sh DIR' >&2; exit 1; }
D=$(realpath -m "$1")
export SLURM_CONF=$D/slurm.conf

# Ends process $1 if it is still the program $2: a pid may have gone to somebody else since it was written down.
end() {
  local pid=$1 name=$2
  for attempt in $(seq 100); do
    [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$name" ] || return 0
    if [ "$attempt" -eq 1 ]; then kill "$pid" 2>/dev/null || true; fi
    if [ "$attempt" -eq 90 ]; then kill -KILL "$pid" 2>/dev/null || true; fi
    sleep 0.1
  done
  echo "slurm_down: $name ($pid) does not end" >&2
  return 1
}

status=0
if [ -s "$D/pids/slurmctld.pid" ] && kill -0 "$(cat "$D/pids/slurmctld.pid")" 2>/dev/null; then
  timeout 10 scancel --partition=main 2>/dev/null || true
  for _ in $(seq 150); do  # KillWait is 10 s
    [ -n "$(timeout 10 squeue -h 2>/dev/null)" ] || break
    sleep 0.1
  done
fi
for name in slurmd slurmctld slurmdbd mariadbd munged; do
  if [ -s "$D/pids/$name.pid" ]; then end "$(cat "$D/pids/$name.pid")" "$name" || status=1; fi
done
rm -rf "$D"/{ctld,spool,db,db.sock,munge,pids,slurm.conf,slurmdbd.conf}
exit $status
