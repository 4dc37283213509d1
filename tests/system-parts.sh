#!/usr/bin/env bash
# Installs the system parts that the tests use, on Debian as root, and Azurite below var/tools. Elsewhere it
# names what is missing: the tests that need it are then left out, each with its reason.
set -euo pipefail
cd "$(dirname "$0")/.."

# command      Debian package     tests
parts="docker-registry docker-registry    publishing-to-a-real-registry
skopeo          skopeo             images-read-by-an-independent-tool
dockerd         docker.io          images-run-by-a-real-Docker-daemon
ip              iproute2           no-connection-leaves-the-machine
node            nodejs             blobs-of-a-real-blob-service
npm             npm                blobs-of-a-real-blob-service
java            openjdk-17-jre-headless checks-on-a-real-Spark-cluster
chromium        chromium           pages-in-a-real-browser"
azurite=3.35.0

missing() { while read -r command package tests; do command -v "$command" >/dev/null || echo "$package ($tests)"; done <<<"$parts"; }

install_packages() {
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
}

# Beside its place first, so that it is there whole or not at all.
install_azurite() {
  grep -qs "\"version\": \"$azurite\"" var/tools/azurite/node_modules/azurite/package.json && return
  echo "installing Azurite $azurite below var/tools"
  rm -rf var/tools/azurite var/tools/azurite.new
  mkdir -p var/tools/azurite.new
  npm install --prefix var/tools/azurite.new --no-save --no-package-lock --no-audit --no-fund --omit=dev \
    --ignore-scripts --loglevel=error "azurite@$azurite" >/dev/null &&
    mv var/tools/azurite.new var/tools/azurite ||
    echo "that failed, so these tests are left out: blobs-of-a-real-blob-service"
}

PATH="$PATH:/usr/sbin:/sbin"
[ -z "$(missing)" ] || install_packages
! command -v npm >/dev/null || install_azurite
