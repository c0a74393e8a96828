#!/bin/sh
# Makes hello-py.wasm. Needs componentize-py (pip install componentize-py==0.25.1).
set -eu
cd "$(dirname "$0")"
mkdir -p wit/deps
cp -R ../../../wit/v0.1 wit/deps/provider
# Nothing of the operating system goes in: the gateway gives a plugin HTTP and settings only.
componentize-py --wit-path wit --world hello componentize --stub-wasi hello --output hello-py.wasm
ls -l hello-py.wasm
