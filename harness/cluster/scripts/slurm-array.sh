
harness shard "$@" --store "$STORE" --part "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" &
run=$!
wait_for_run
requeue_if_stopped "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
exit "$code"
