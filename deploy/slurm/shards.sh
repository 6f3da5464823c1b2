#!/bin/bash
# A corpus in shards on a Slurm cluster: one job that reads the source once, an array of shards, and a job that merges them.
#
#   deploy/slurm/shards.sh SHARDS SOURCE OUT FLAGS…
#   deploy/slurm/shards.sh 64 /data/corpus /data/run --dense bge-m3 --sparse bm25
#
# Options for sbatch of all three jobs (partition, account): SBATCH_… variables, as in SBATCH_PARTITION=gpu.
# A shard that fails does not hold up the others; the merge begins once all have succeeded. Type the same line again to go on
# after a failure: what is done stays done.

set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: shards.sh SHARDS SOURCE OUT FLAGS…" >&2
  exit 2
fi
shards=$1 source=$2 out=$3
shift 3
here=$(cd "$(dirname "$0")" && pwd)

fit=$(sbatch --parsable --job-name=embedfleet-fit "$here/step.sbatch" fit "$source" --out "$out" "$@")
array=$(sbatch --parsable --job-name=embedfleet-shards --array="0-$((shards - 1))" --gpus-per-node=8 \
  --dependency="afterok:$fit" "$here/step.sbatch" shard "$shards" "$source" --out "$out" "$@")
merge=$(sbatch --parsable --job-name=embedfleet-merge --dependency="afterok:$array" "$here/step.sbatch" merge "$out")
echo "fit $fit, shards $array, merge $merge"
