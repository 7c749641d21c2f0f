
umask 077
private=$HOME/.harness/slurm-$SLURM_JOB_ID
mkdir -p "$private"
chmod 700 "$HOME/.harness" "$private"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$private/token
python -c 'import secrets; print(secrets.token_hex(32), end="")' >"$RAY_AUTH_TOKEN_PATH"

# Ray's folder lies on each node's own disk, below one that only this user may enter. Not in TMPDIR,
# which is often too long for the names of sockets.
ray_node() {
  umask 077
  trap : TERM # which Ray gets too, so that this goes on behind it
  local scratch=/tmp/harness-$SLURM_JOB_ID
  mkdir -p "$scratch"
  # shellcheck disable=SC2086  # RAY_OPTIONS are words
  ray start "$@" $RAY_OPTIONS --temp-dir="$scratch/ray" --disable-usage-stats --block
  local code=$?
  rm -rf "$scratch"
  return $code
}
export -f ray_node

others=$((SLURM_JOB_NUM_NODES - 1))
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
ip=127.0.0.1
if [ "$others" -gt 0 ]; then
  ip=$(srun --overlap --nodes=1 --ntasks=1 --nodelist="$first" hostname --ip-address)
  ip=${ip%% *}
fi
port=$((20000 + SLURM_JOB_ID % 10000))
export ADDRESS=$ip:$port

step=(srun --overlap --kill-on-bad-exit=0 "--cpus-per-task=$SLURM_CPUS_PER_TASK")
[ -z "$GPUS" ] || step+=("--gpus-per-node=$GPUS")
"${step[@]}" --nodes=1 --ntasks=1 --nodelist="$first" bash -c \
  "ray_node --head --node-ip-address=$ip --port=$port --include-dashboard=false" \
  >"$private/head.log" 2>&1 &
head=$!
going() { [ $again = 0 ] && kill -0 $head 2>/dev/null; }
while going && ! (: >"/dev/tcp/$ip/$port") 2>/dev/null; do sleep 1; done
workers=
if going && [ "$others" -gt 0 ]; then
  "${step[@]}" --nodes=$others --ntasks=$others --exclude="$first" bash -c \
    "ray_node --address=$ADDRESS" >"$private/workers.log" 2>&1 &
  workers=$!
fi

# The launch also takes nodes that join later, so a late one is not waited for long.
joined() {
  python - "$SLURM_JOB_NUM_NODES" <<'PYTHON'
import os
import sys

import ray

ray.init(os.environ["ADDRESS"], log_to_driver=False, logging_level="ERROR")
sys.exit(sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[1]))
PYTHON
}
for _ in $(seq 20); do
  going && ! joined >"$private/joined.log" 2>&1 || break
  sleep 1
done

if [ $again = 1 ]; then
  code=143
elif going; then
  harness run "$@" --store "$STORE" --address "$ADDRESS" &
  run=$!
  wait_for_run
else
  code=1
  echo "Ray did not start on $first:" >&2
  tail -n 20 "$private/head.log" >&2
fi

# To Ray itself: srun would have it killed.
scancel --signal=TERM "$SLURM_JOB_ID"
# shellcheck disable=SC2086  # there may be no workers
{
  (sleep 60 && kill -TERM $workers $head) &
  wait $workers $head
  kill $!
} 2>/dev/null
rm -rf "$private"
requeue_if_stopped "$SLURM_JOB_ID"
exit "$code"
