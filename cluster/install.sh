#!/bin/bash
# Install the harness for running it: cluster/install.sh FOLDER [EXTRAS], with PYTHON as interpreter.
# FOLDER becomes a virtual environment; on a shared disk, one serves all machines.
set -euo pipefail
folder=${1:?the folder to install into}
cd "$(dirname "$0")/.."
"${PYTHON:-python3.11}" -m venv --clear "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-cache-dir \
  --constraint constraints.txt ".[${2:-gpu,servers}]"
"$folder/bin/harness" doctor
