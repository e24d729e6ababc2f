#!/usr/bin/env bash
# Fetch Debian's header of onnxruntime's C interface into FOLDER, without installing anything.
set -euo pipefail

folder=$1
if [[ -e $folder/usr/include/onnxruntime/onnxruntime_c_api.h ]]; then exit; fi
mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
cd "$folder"
cat > apt/trixie.sources <<'END'
Types: deb
URIs: http://deb.debian.org/debian
Suites: trixie
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
options=(
    -o Dir::Etc::sourcelist="$PWD/apt/trixie.sources" -o Dir::Etc::sourceparts=/dev/null
    -o Dir::State::lists="$PWD/apt/lists" -o Dir::Cache="$PWD/apt/cache"
    -o APT::Sandbox::User="$(id -un)" -qq
)
apt-get "${options[@]}" update
apt-get "${options[@]}" download libonnxruntime-dev
dpkg-deb -x libonnxruntime-dev_*.deb .
rm -r apt
