#!/bin/sh
# What an installed hakmem must do, wherever it was installed: installed.sh FOLDER-OF-ITS-COMMANDS
# Run it in a folder that is not the source tree. Says each thing done; ends at the first that fails.
set -eu
bin=$(cd "$1" && pwd)
PATH="$bin:$PATH"
export PATH
fail() { echo "installed.sh: $*" >&2; exit 1; }

version=$(hakmem --version)
echo "hakmem --version: $version"
[ "$version" = "hakmem $("$bin/python" -c 'import hakmem; print(hakmem.__version__)')" ] || fail "__version__ is another"
[ "$version" = "hakmem $("$bin/python" -c 'import importlib.metadata as m; print(m.version("hakmem"))')" ] || fail "the metadata says another"

hakmem run -q -- "$bin/python" -c 'assert "libhakmem" in open("/proc/self/maps").read()' || fail "hakmem run: not on the library"
hakmem run -- python -c 1
echo "hakmem run -- python -c 1: on the library"

place=$("$bin/python" -c 'import hakmem, pathlib; print(pathlib.Path(hakmem.__file__).parent)')
[ -f "$place/py.typed" ] || fail "no py.typed in $place"
[ ! -e "$place/../bench" ] || fail "a package of the name bench was installed"
for shell in bash zsh fish; do
    hakmem completion $shell | grep -q hakmem || fail "no completion for $shell"
done
[ -f "$bin/../share/man/man1/hakmem.1" ] || fail "no manual page under share/man"
echo "py.typed, completion, share/man/man1/hakmem.1: there"

before=$(find "$place" -type f ! -name '*.pyc' | wc -l)
rows=$(hakmem bench rows | wc -l)
[ "$rows" -gt 40 ] || fail "hakmem bench rows: $rows rows"
hakmem bench run --quick --rows pair_64 --only hakmem,glibc >bench.txt || fail "hakmem bench run"
grep -q pair_64 bench.txt || fail "hakmem bench run measured nothing: $(cat bench.txt)"
[ "$(find "$place" -type f ! -name '*.pyc' | wc -l)" -eq "$before" ] || fail "hakmem bench wrote into $place"
echo "hakmem bench: $rows rows, measured, nothing written beside the package"
