#!/bin/bash
# A corpus in shards on a Slurm cluster: one job that reads the source once, an array of shards, and a job that merges them.
#
#   deploy/slurm/shards.sh SHARDS SOURCE OUT FLAGS…
#   deploy/slurm/shards.sh 64 /data/corpus /data/run --dense bge-m3 --sparse bm25
#
# Options for sbatch of all three jobs (partition, account): SBATCH_… variables, as in SBATCH_PARTITION=gpu.
# The first job is held until all three are submitted; if one is refused, none of them is left.
# A shard that fails does not hold up the others; the merge begins once all have succeeded. Type the same line again to go on
# after a failure: what is done stays done.

set -euo pipefail
if [ $# -lt 4 ]; then
  echo "usage: shards.sh SHARDS SOURCE OUT FLAGS…" >&2
  exit 2
fi
shards=$1 source=$2 out=$3
shift 3
if ! [[ $shards =~ ^[1-9][0-9]*$ ]]; then
  echo "shards.sh: SHARDS '$shards': give their number, as in 64" >&2
  exit 2
fi
fit_needs=()
for flag; do
  case "$flag" in
    int8 | --store=int8) fit_needs=(--gpus-per-node=1) ;; # a sample of chunks is embedded
  esac
  if [ "$flag" = --restart ]; then
    echo "shards.sh: --restart: a job that is requeued would begin anew each time; delete $out/shards, or run one shard" \
      "with --shard I/$shards --restart" >&2
    exit 2
  fi
done
here=$(cd "$(dirname "$0")" && pwd)

jobs=()
undo() {
  [ ${#jobs[@]} -eq 0 ] || scancel "${jobs[@]}"
  echo "shards.sh: $1; nothing was started" >&2
  exit 1
}

fit=$(sbatch --parsable --hold --job-name=embedfleet-fit ${fit_needs[@]+"${fit_needs[@]}"} "$here/step.sbatch" fit "$source" --out "$out" "$@") ||
  undo "Slurm refused the first job"
jobs+=("${fit%%;*}") # NUMBER, or NUMBER;CLUSTER
array=$(sbatch --parsable --job-name=embedfleet-shards --array="0-$((shards - 1))" --gpus-per-node=8 \
  --dependency="afterok:${jobs[0]}" "$here/step.sbatch" shard "$shards" "$source" --out "$out" "$@") ||
  undo "Slurm refused the array of $shards shards: a cluster takes at most MaxArraySize tasks, usually 1001; \`scontrol show config\` \
says how many; give fewer shards"
jobs+=("${array%%;*}")
merge=$(sbatch --parsable --job-name=embedfleet-merge --dependency="afterok:${jobs[1]}" "$here/step.sbatch" merge "$out") ||
  undo "Slurm refused the job that merges"
jobs+=("${merge%%;*}")
scontrol release "${jobs[0]}" || undo "Slurm did not release the first job"
echo "fit ${jobs[0]}, shards ${jobs[1]}, merge ${jobs[2]}"
