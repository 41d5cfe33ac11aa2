#!/usr/bin/env bash
# Gates trained to be cut against plain L1, EuroSAT, resnet_narrow, 15 epochs in all; resumable.
# Usage: RS_PRUNE_DATA=... experiments/budgeted_eurosat/run.sh [out]     (about 3 hours on one thread; see README.md)
set -euo pipefail
RUN=${RUN:-rs-prune}
OUT=${1:-outputs/budgeted_eurosat}
common="dataset=eurosat batch_size=128 trainer.precision=bf16-mixed finetune.lr_factor=1.0 threads=1 latency.seconds=0.05 logger=none
  out=$OUT cache=${CACHE:-$OUT/cache}"
for at in "0.1 0,1,2,3,4" "0.25 0,1,2"; do
  read -r keep seeds <<< "$at"
  $RUN run -m $common attention=budgeted criterion=attention scope=global epochs=15 finetune_epochs=0 budget.keep=$keep seed=$seeds
  $RUN run -m $common attention=none criterion=l1 schedule=one_shot,iterative,gradual scope=local,global_macs \
    epochs=10 finetune_epochs=5 budget.keep=$keep seed=$seeds
done
