#!/bin/bash
# setup
sudo mkdir -p "$SHARED"
mountpoint -q "$SHARED" || sudo mount -t nfs4 -o nfsvers=4.1,hard "$NFS" "$SHARED"
sudo install -d -o "$(id -u)" -g "$(id -g)" "$HARNESS_DATA"
case $STORE in /*) sudo install -d -o "$(id -u)" -g "$(id -g)" "$STORE" ;; esac
# end

# run
# Port 6379 is ours: SkyPilot's own Ray has 6380, and `ray stop` would end that too.
first=$(echo "$SKYPILOT_NODE_IPS" | head -n 1)
export RAY_ADDRESS=$first:6379
if [ "$SKYPILOT_NODE_RANK" = 0 ]; then
  # shellcheck disable=SC2086  # RAY_OPTIONS are words
  ray start --head --port=6379 --include-dashboard=false --disable-usage-stats $RAY_OPTIONS \
    --block &
  head=$!
  until ray health-check || ! kill -0 $head; do sleep 1; done
  eval "$RUN"
  code=$?
  kill -TERM $head
  wait $head
  exit "$code"
fi
# A worker whose Ray ends joins again, for as long as there is a head.
until ray health-check; do sleep 1; done
while ray health-check; do
  # shellcheck disable=SC2086
  ray start --address="$RAY_ADDRESS" --disable-usage-stats $RAY_OPTIONS --block
  sleep 5
done
# end
