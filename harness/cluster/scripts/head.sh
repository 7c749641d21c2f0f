
ip=${1:?the address by which the other machines reach this one}
if [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  echo "no token in $RAY_AUTH_TOKEN_PATH: cluster/README.md says how to make one" >&2
  exit 2
fi
# The dashboard takes jobs, so it listens on loopback only: `ssh -L` leads there.
# shellcheck disable=SC2086  # RAY_OPTIONS are words
exec ray start --head --node-ip-address="$ip" --dashboard-host=127.0.0.1 $RAY_OPTIONS \
  --disable-usage-stats --block
