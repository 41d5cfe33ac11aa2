#!/usr/bin/env bash
# PFAM's claim on EuroSAT: soft pruning from scratch to a 40 % smaller model, five seeds; resumable.
# Usage: RS_PRUNE_DATA=... experiments/pfam_eurosat/run.sh [out]     (about 3 hours on one thread; see README.md)
set -euo pipefail
RUN=${RUN:-rs-prune}
OUT=${1:-outputs/pfam_eurosat}
common="dataset=eurosat batch_size=128 trainer.precision=bf16-mixed epochs=10 finetune_epochs=0 schedule=soft attention=none threads=1
  latency.seconds=0.05 logger=none out=$OUT cache=${CACHE:-$OUT/cache}"
for seed in 0 1 2 3 4; do
  # 40 % fewer parameters: both signs of the criterion, and the controls
  $RUN run -m $common budget=params budget.keep=0.6 criterion=correlation criterion.keep=correlated,distinct seed=$seed
  $RUN run -m $common budget=params budget.keep=0.6 criterion=fpgm,l2,random seed=$seed
  # 40 % fewer filters: the other reading of "40 %"
  $RUN run -m $common budget=channels budget.keep=0.6 criterion=correlation seed=$seed
done
