#!/usr/bin/env bash
# Builds the image quorate:local from this checkout, without any other image and without a registry,
# and makes deploy/cluster-secret when there is none.
#
#   deploy/build-image.sh
#
# QUORATE_IMAGE    its name (default quorate:local)
# QUORATE_BINARY   a finished binary to put in, instead of building one
# QUORATE_STAGE    folder in which the image's files are laid out (default deploy/stage)
# QUORATE_STAGE_ONLY   stop when they are: for tests that need no engine
set -euo pipefail
cd "$(dirname "$0")/.."
image=${QUORATE_IMAGE:-quorate:local}
stage=${QUORATE_STAGE:-deploy/stage}
target=${CARGO_TARGET_DIR:-target}
triple=$(rustc -vV | sed -n 's/^host: //p')

say() { printf 'build-image: %s\n' "$*" >&2; }

# Static: one file is all the image needs. The explicit --target keeps the flags away from build
# scripts and macros; linux_getrandom asks the kernel itself, where else /dev/urandom would be
# opened, which a scratch image may lack.
build_static() {
  RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' \
    cargo build --release --locked --target "$triple" -p quorate-server --bin quorate >&2 || return
  local built="$target/$triple/release/quorate"
  "$built" --version >/dev/null || return
  printf '%s' "$built"
}

build_dynamic() {
  cargo build --release --locked -p quorate-server --bin quorate >&2 || return
  printf '%s' "$target/release/quorate"
}

# The loader and the libraries of a dynamic binary, at the paths it looks for them; and the two
# libraries by which old versions of glibc resolve names, which no binary lists.
stage_libraries() {
  local path resolver
  ldd "$1" 2>/dev/null | grep -o '/[^ ]*' | sort -u | while read -r path; do
    install -D -m 755 "$(readlink -f "$path")" "$stage/image$path"
  done
  for resolver in libnss_files.so.2 libnss_dns.so.2; do
    path=$(dirname "$(ldd "$1" | grep -o '/[^ ]*libc\.so\.6')")/$resolver
    [ ! -e "$path" ] || install -D -m 755 "$(readlink -f "$path")" "$stage/image$path"
  done
}

binary=${QUORATE_BINARY:-}
if [ -z "$binary" ]; then
  binary=$(build_static) || { say 'no static binary here, building a dynamic one'; binary=$(build_dynamic); }
fi

rm -rf "$stage"
mkdir -p "$stage/image/etc" "$stage/data"
install -m 755 "$binary" "$stage/image/quorate"
# Names come from /etc/hosts, then from DNS; the engine mounts hosts and resolv.conf.
echo 'hosts: files dns' >"$stage/image/etc/nsswitch.conf"
if ldd "$binary" >/dev/null 2>&1 && ! ldd "$binary" | grep -q 'statically linked'; then
  stage_libraries "$binary"
  say "dynamic, with $(find "$stage/image" -name '*.so*' | wc -l) libraries"
else
  say 'static'
fi

[ -z "${QUORATE_STAGE_ONLY:-}" ] || exit 0

if [ ! -s deploy/cluster-secret ]; then
  # Readable by others than its owner, because inside it belongs to another user: keep the folder
  # of a real deployment closed.
  (umask 022 && head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n' >deploy/cluster-secret)
  say 'made deploy/cluster-secret'
fi

docker build --quiet --tag "$image" --file deploy/Dockerfile "$stage" >/dev/null
say "built $image ($(docker image inspect --format '{{.Size}}' "$image") bytes)"
