# Sourced by tools/demo and tools/test: installs what is missing. Asks for nothing and prints little.
#
#   prepare_packages PACKAGE...   Debian packages
#   prepare_python                what tests take from PyPI, in a virtual environment; sets WAL_TEST_PYTHON
#   build_products LOG OPTION... -- PRODUCT...   builds; WAL_SKIP_BUILD: what is there is taken as it is, for CI
#   end_if_building_only          ends where WAL_BUILD_ONLY is set: what a later call runs is built, for CI

prepare_swift() {
    command -v swift > /dev/null && return
    echo "swift is not installed; get Swift 6.2 or newer from https://www.swift.org/install/linux" >&2
    exit 2
}

prepare_packages() {
    local missing=() package run=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2> /dev/null | grep -q 'ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -eq 0 ] && return
    [ "$(id -u)" -eq 0 ] || run=(sudo -n)
    echo "installing ${missing[*]}"
    if ! { "${run[@]}" apt-get update -qq &&
        DEBIAN_FRONTEND=noninteractive "${run[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
        > "$build_folder/apt.log" 2>&1; then
        tail -n 20 "$build_folder/apt.log" >&2
        echo "could not install ${missing[*]}; install them by hand and start again" >&2
        exit 3
    fi
}

prepare_python() {
    local environment="$build_folder/python" packages=('opentelemetry-proto>=1.30,<2' 'lz4>=4,<5')
    export WAL_TEST_PYTHON="$environment/bin/python"
    if ! "$WAL_TEST_PYTHON" -c 'import opentelemetry.proto.trace.v1.trace_pb2, lz4.frame' 2> /dev/null; then
        echo "installing ${packages[*]} from PyPI"
        rm -rf "$environment"
        python3 -m venv "$environment"
        "$WAL_TEST_PYTHON" -m pip install --quiet --disable-pip-version-check "${packages[@]}"
    fi
}

build_products() {
    local log=$1 options=()
    shift
    while [ "$1" != -- ]; do
        options+=("$1")
        shift
    done
    shift
    [ -z "${WAL_SKIP_BUILD:-}" ] || return 0
    : > "$log"
    for product in "$@"; do
        swift build "${options[@]}" --product "$product" >> "$log" 2>&1 || {
            grep -E 'error' -A 5 "$log" >&2 || tail -n 20 "$log" >&2
            exit 3
        }
    done
}

end_if_building_only() { [ -z "${WAL_BUILD_ONLY:-}" ] || exit 0; }

cd "$(dirname "${BASH_SOURCE[0]}")/.."
build_folder="$PWD/.build"
mkdir -p "$build_folder"
