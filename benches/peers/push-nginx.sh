#!/bin/sh
# Starts pushd, and nginx in front of it: push-nginx.sh PUSHD NGINX DIRECTORY CONFIGURATION. The harness ends both.
set -eu
rm -f "$3/attach.sock"
"$1" -d 0 -o threads=1 -o listen=none -o "attach_listen=unix:$3/attach.sock" &
# nginx would also start without a hub, but then the first subscribers would wait until it has attached.
until [ -S "$3/attach.sock" ]; do sleep 0.02; done
exec "$2" -p "$3" -e stderr -c "$4"
