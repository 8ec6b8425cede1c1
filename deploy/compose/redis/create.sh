#!/usr/bin/env bash
# Makes a cluster of six empty nodes, three masters with a replica each; leaves one that is there as it is.
#
#   create.sh HOST...
set -euo pipefail

# nodes know each other by address
nodes=()
for host in "$@"; do
  address=$(getent ahostsv4 "$host" | awk 'NR == 1 { print $1 }')
  [ -n "$address" ] || { echo "create.sh: $host has no address" >&2; exit 1; }
  nodes+=("$address:6379")
done

info() { redis-cli -h "${1%:*}" cluster info | tr -d '\r'; }

# started anew: the nodes remember their cluster, but may have other addresses now
for node in "${nodes[@]}"; do
  if info "$node" | grep -q '^cluster_known_nodes:[2-9]'; then
    echo "there is a cluster: the nodes meet again"
    for other in "${nodes[@]}"; do
      redis-cli -h "${node%:*}" cluster meet "${other%:*}" 6379 >/dev/null
    done
    known=yes
    break
  fi
done
[ -n "${known:-}" ] || redis-cli --cluster create "${nodes[@]}" --cluster-replicas 1 --cluster-yes

whole() {
  local node
  for node in "${nodes[@]}"; do
    info "$node" | grep -q '^cluster_state:ok' || return 1
    info "$node" | grep -q '^cluster_slots_ok:16384' || return 1
  done
}
for _ in $(seq 120); do
  if whole; then
    echo "the cluster is whole"
    exit 0
  fi
  sleep 0.5
done
echo "create.sh: the cluster is not whole after a minute:" >&2
redis-cli -h "${nodes[0]%:*}" cluster nodes >&2
exit 1
