#!/usr/bin/env bash
# Generates interlockv1/ from the protos. The files are committed, because `go get` and `go build` run no generator;
# `make go-check` fails if they differ from the protos.
set -euo pipefail
cd "$(dirname "$0")"
module=$(go list -m)
buf=../../proto/lint/node_modules/.bin/buf
rm -rf interlockv1
"$buf" generate ../../proto --path ../../proto/interlock --template '{
  "version": "v2",
  "plugins": [
    {"local": ["go", "tool", "protoc-gen-go"], "out": ".", "opt": "module='"$module"'"},
    {"local": ["go", "tool", "protoc-gen-go-grpc"], "out": ".", "opt": "module='"$module"'"}]}'
