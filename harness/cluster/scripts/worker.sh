
head=${1:?HOST:PORT of the head}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  echo "no token in $RAY_AUTH_TOKEN_PATH: copy the head's" >&2
  exit 2
fi
# Ray ends itself when the head has given it up, and never comes back: this loop joins again.
over=0
node=
stop() {
  over=1
  [ -z "$node" ] || kill -TERM "$node" 2>/dev/null
}
trap stop TERM INT
while [ $over = 0 ]; do
  # shellcheck disable=SC2086  # RAY_OPTIONS are words
  ray start --address="$head" $RAY_OPTIONS --disable-usage-stats --block &
  node=$!
  wait "$node"
  while kill -0 "$node" 2>/dev/null; do wait "$node"; done
  [ $over = 1 ] || sleep 5
done
