#!/usr/bin/env bash
# Builds the core into a static program without std, allocator and libc, looks at its symbols, and
# runs it. Needs x86-64 Linux; says so and succeeds elsewhere.
set -eu
cd "$(dirname "$0")"
if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "nostd: skipped, this gate runs on x86-64 Linux only"
    exit 0
fi
target=x86_64-unknown-linux-gnu
# --target must be given: else the flags would also hit build scripts.
RUSTFLAGS="-C link-arg=-nostartfiles -C link-arg=-nostdlib -C link-arg=-static -C relocation-model=static" \
    cargo build --quiet --release --target "$target"
program="${CARGO_TARGET_DIR:-target}/$target/release/packetcrypt-nostd"
undefined=$(nm --undefined-only "$program")
if [ -n "$undefined" ]; then
    echo "nostd: undefined symbols:"; echo "$undefined"; exit 1
fi
# Names of the crates std and alloc in old (_ZN3std) and new (..Cs<hash>_3std) mangling.
if nm "$program" | grep -E '_ZN(3std|5alloc)|_R.*_(3std|5alloc)|__rust_alloc|__rdl_alloc'; then
    echo "nostd: std or an allocator is linked"; exit 1
fi
code=0
"$program" || code=$?
if [ "$code" -ne 0 ]; then
    echo "nostd: the program ended with $code (1, 2 announcement; 3, 4 block; 101 panic)"; exit 1
fi
echo "nostd: $(stat -c %s "$program") bytes, no undefined symbol, no std; announcement and block checked"
