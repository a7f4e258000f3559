#!/bin/sh
# Is momentum an improvement? A preview, a sweep of eight seeds for each side, a verdict by its exit code.
set -eu
settings="dataset=digits model=mlp epochs=3 device.threads=1 seed=range(8)"
python -m experiments --json -m $settings optim=sgd,sgd_momentum sweep.preview=true > preview.json
python -m experiments --json -m $settings optim=sgd hydra.sweep.dir=outputs/sgd > sgd.json
python -m experiments --json -m $settings optim=sgd_momentum hydra.sweep.dir=outputs/momentum > momentum.json
verdict=0
python -m experiments.compare --json --baseline outputs/sgd outputs/momentum > verdict.json || verdict=$?
case $verdict in 0) echo "improved" ;; 1) echo "worse" ;; 3) echo "cannot tell" ;; *) exit $verdict ;; esac
