#!/usr/bin/env bash
# Which of 13 bands (and NDVI) stay? Band attention against plain L1 and chance, on whatever part of EuroSAT MS is at hand; resumable.
# Usage: RS_PRUNE_DATA=... experiments/bands_eurosat_ms/run.sh [out]     (about 15 minutes on one idle core for 369 images; see README.md)
set -euo pipefail
RUN=${RUN:-rs-prune}
OUT=${1:-outputs/bands_eurosat_ms}
common="seed=0,1,2 dataset=eurosat_ms model=timm model.name=test_resnet trainer=cpu threads=1 dataset.size=32 batch_size=16 epochs=20 finetune_epochs=5 finetune.lr_factor=1.0
  granularity=bands budget=bands latency.seconds=0.02 logger=none out=$OUT budget.count=9,6,4,3,2,1"
$RUN run -m $common attention=se attach.input=only criterion=attention,l1
$RUN run -m $common attention=none criterion=l1,random
