
# The limit's signal ends the work, which takes a checkpoint. Then a job that still has its
# allocation goes back into the queue and on from there; one that was cancelled has lost it.
again=0
run=
stop() {
  again=1
  [ -z "$run" ] || kill -TERM "$run" 2>/dev/null
}
trap stop TERM

# The exit code of $run, however often a signal interrupts the wait.
wait_for_run() {
  [ $again = 0 ] || kill -TERM "$run"
  wait "$run"
  code=$?
  while kill -0 "$run" 2>/dev/null; do
    wait "$run"
    code=$?
  done
}

requeue_if_stopped() {
  [ $again = 1 ] && [ "$code" -ge 128 ] || return
  [ "$(squeue --noheader --jobs="$1" --format=%T)" = RUNNING ] || return
  if [ "${SLURM_RESTART_COUNT:-0}" -ge "$REQUEUES" ]; then
    echo "stopped after $REQUEUES requeues: submit it again to go on" >&2
    return
  fi
  echo "requeued to go on from the checkpoints" >&2
  scontrol requeue "$1"
}
