#!/usr/bin/env bash
# Installs the system parts that the tests use, on Debian as root. Elsewhere it names what is missing:
# the tests that need it are then left out, each with its reason.
set -euo pipefail

# command      Debian package     tests
parts="docker-registry docker-registry    publishing-to-a-real-registry
skopeo          skopeo             images-read-by-an-independent-tool
dockerd         docker.io          images-run-by-a-real-Docker-daemon
ip              iproute2           no-connection-leaves-the-machine"

missing() { while read -r command package tests; do command -v "$command" >/dev/null || echo "$package ($tests)"; done <<<"$parts"; }

PATH="$PATH:/usr/sbin:/sbin"
[ -n "$(missing)" ] || exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  packages=$(missing | cut -d' ' -f1)
  echo "installing system parts:" $packages
  apt-get update -qq >/dev/null
  # policy-rc.d keeps the packages from starting services of their own.
  guard=/usr/sbin/policy-rc.d
  [ -e "$guard" ] || { printf '#!/bin/sh\nexit 101\n' >"$guard"; chmod +x "$guard"; trap 'rm -f "$guard"' EXIT; }
  # shellcheck disable=SC2086
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >/dev/null
else
  echo "not installed here, so these tests are left out:"
  missing | sed 's/^/  /'
fi
