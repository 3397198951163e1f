#!/bin/sh
# Ask a `mismatch serve` whether a text describes an image, with curl: client.sh IMAGE TEXT
#
# MISMATCH_URL    where the service is (default http://127.0.0.1:8000)
# MISMATCH_TOKEN  a bearer token, where the service wants one
set -eu

if [ $# -ne 2 ]; then
    echo "usage: $0 IMAGE TEXT" >&2
    exit 2
fi

header=
if [ -n "${MISMATCH_TOKEN:-}" ]; then
    header="header = \"Authorization: Bearer $MISMATCH_TOKEN\""
fi
name=$(printf %s "$1" | sed 's/[\\"]/\\&/g')  # within the quotes by which curl takes , and ; as they are

# The token comes by curl's input: other users of a machine see the words of a command.
# --retry takes 503 for passing and waits as long as Retry-After says; --form-string takes @ and < as they are.
printf '%s\n' "$header" | curl --config - --silent --show-error --fail-with-body --max-time 60 --retry 5 --retry-connrefused \
    --form "image=@\"$name\"" --form-string "text=$2" "${MISMATCH_URL:-http://127.0.0.1:8000}/v1/predict"
echo
