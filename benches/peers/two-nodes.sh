#!/bin/sh
# Starts a redis-server, and two nodes that share it: two-nodes.sh DIRECTORY REDIS_PORT FIRST SECOND. Both are commands
# for a shell. The second one takes this script's place. The harness ends them all.
set -eu
redis-server --port "$2" --bind 127.0.0.1 --save '' --dir "$1" --daemonize no >"$1/redis.log" 2>&1 &
until [ "$(redis-cli -p "$2" ping 2>&1)" = PONG ]; do sleep 0.02; done
sh -c "exec $3" &
exec sh -c "exec $4"
