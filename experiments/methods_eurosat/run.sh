#!/usr/bin/env bash
# Every kind of pruning on EuroSAT, resnet_narrow, 10 + 5 epochs, seeds 0 and 1; resumable: what is done is not done again.
# Usage: RS_PRUNE_DATA=... experiments/methods_eurosat/run.sh [out]     (about 6 hours on one thread; see README.md)
set -euo pipefail
RUN=${RUN:-rs-prune}
OUT=${1:-outputs/methods_eurosat}
SEEDS=${SEEDS:-0,1}
common="dataset=eurosat batch_size=128 trainer.precision=bf16-mixed epochs=10 finetune_epochs=5 finetune.lr_factor=1.0
  threads=1 latency.seconds=0.05 logger=none seed=$SEEDS out=$OUT cache=${CACHE:-$OUT/cache}"

# 1. Channel criteria, one_shot, from the plain net, from the net with SE gates, and from nets trained for their criterion
$RUN run -m $common attention=none criterion=l1,l2,bn_scale,fpgm,correlation,taylor,hessian_diag,hrank,random budget.keep=0.5,0.25
$RUN run -m $common attention=none criterion=correlation criterion.keep=distinct budget.keep=0.5,0.25
$RUN run -m $common attention=se criterion=attention,cap,attention_x_taylor,l1,random budget.keep=0.5,0.25
$RUN run -m $common attention=none penalty=slimming criterion=bn_scale budget.keep=0.5,0.25
$RUN run -m $common attention=correlation criterion=correlation_learned budget.keep=0.5,0.25
# 2. Single weights, the whole net as one ranking
$RUN run -m $common attention=none granularity=weights criterion=l1,lamp scope=global budget=params budget.keep=0.5,0.2,0.1,0.05
# 3. Schedules at a quarter of the multiply-adds
$RUN run -m $common attention=none criterion=l1 schedule=iterative,gradual,rewind budget.keep=0.25
$RUN run -m $common attention=se criterion=attention schedule=iterative,gradual,rewind budget.keep=0.25
# 4. Residual blocks of a net with two blocks a stage (0.5444 is the nearest share that blocks alone reach), blocks and then
#    channels, and channels alone
layers="model=resnet_narrow2 attention=none criterion=l1"
$RUN run -m $common $layers granularity=layers granularity.channels=false granularity.rank=criterion,effect budget.keep=0.5444
$RUN run -m $common $layers granularity=layers granularity.rank=effect budget.keep=0.25
$RUN run -m $common $layers budget.keep=0.5444,0.25
# 5. Schedules that train from scratch, 15 epochs
$RUN run -m $common attention=none criterion=l1 schedule=soft,dynamic budget.keep=0.25
$RUN run -m $common attention=se criterion=attention schedule=soft,dynamic budget.keep=0.25
