# `make demo` and `make test` need only Python 3.11 or newer; a C++ compiler is used if there is one.
# Everything is installed into .venv, once, and again when the list of packages changes.

SHELL := /bin/sh
# Some environments keep Python from writing bytecode. The tests start Python hundreds of times, and
# without bytecode each start compiles a thousand modules.
unexport PYTHONDONTWRITEBYTECODE
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq --no-compile \
    --constraint requirements-dev.lock
PHOTOS ?=
PYTEST_ARGS ?=
KERNEL := CMakeLists.txt $(wildcard nciihash/search/kernel/*)

.PHONY: setup demo demo-gate test test-quick attacks structure fuzz-service fuzz-files fuzz-code tiff-sweep
.PHONY: openapi-clients lint lint-page words docs dist
.PHONY: bench bench-check bench-full bench-hashing bench-search bench-recall
.PHONY: bench-service bench-gate bench-scan bench-video bench-page bench-veil bench-inversion bench-false-matches
.PHONY: restart-nginx kernels sanitize screenshots page lock clean

setup: $(VENV)/.dev

# The demonstration needs no test or lint tools, so it has a smaller set of packages.
demo: $(VENV)/.demo
	@$(BIN)/nciihash demo $(PHOTOS)

# The gate in front of two sites that know nothing of hashes, the second one behind Squid if that is
# installed; two minutes.
demo-gate: $(VENV)/.demo
	@$(BIN)/nciihash demo --gate $(PHOTOS)

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(PYTEST_ARGS)

# For development: skips tests of browsers, videos, PostgreSQL, the sandbox, the promises and the
# examples. tests/conftest.py has the list; `make test` runs all.
test-quick: $(VENV)/.dev
	HYPOTHESIS_PROFILE=brief $(BIN)/python -m pytest --numprocesses auto --dist loadfile -m "not slow" \
	    $(PYTEST_ARGS)

# Large folders, files and functions, with the reason for each, to consider for splitting.
structure: $(VENV)/.dev
	@$(BIN)/python tests/tools/structure.py

# Attacks on a real service, with a bound on what each gains. Part of `make test`.
attacks: $(VENV)/.dev
	$(BIN)/python -m pytest tests/promises/attacks $(PYTEST_ARGS)

# Valid and invalid requests generated from the OpenAPI document (schemathesis), longer than in
# `make test`.
fuzz-service: $(VENV)/.dev
	SCHEMATHESIS_EXAMPLES=200 $(BIN)/python -m pytest tests/clearinghouse/test_openapi.py $(PYTEST_ARGS)

lint: $(VENV)/.dev lint-page
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini
	$(BIN)/lint-imports
	$(BIN)/clang-format --dry-run --Werror $(wildcard nciihash/search/kernel/*)
	$(BIN)/python tests/tools/words.py

# The OpenAPI document linted by Redocly; and clients generated from it in Python and TypeScript, each of
# which reads the feed of a real service. Needs npm and Java; a minute.
openapi-clients: $(VENV)/.dev
	PYTHONPATH=tests:. $(BIN)/python tests/tools/openapi_clients.py

# A rolling restart of two workers on PostgreSQL and nginx under load: how many requests are lost.
# Needs nginx and PostgreSQL; two minutes.
restart-nginx: $(VENV)/.dev
	PYTHONPATH=tests:. $(BIN)/python tests/tools/restart_nginx.py

# Forbidden words and phrases in code, docs and messages, and how often each is used.
words: $(VENV)/.dev
	@$(BIN)/python tests/tools/words.py

# The page's scripts: Biome's rules, and TypeScript's check of the types in their comments; needs npm.
# `npm ci` installs what package-lock.json names, once, and again when it changes.
PAGE_TOOLS := tests/tools/page
lint-page: $(PAGE_TOOLS)/node_modules/.installed
	$(PAGE_TOOLS)/node_modules/.bin/biome lint --error-on-warnings --config-path=$(PAGE_TOOLS) clearinghouse/page
	$(PAGE_TOOLS)/node_modules/.bin/tsc --project clearinghouse/page

$(PAGE_TOOLS)/node_modules/.installed: $(PAGE_TOOLS)/package.json $(PAGE_TOOLS)/package-lock.json
	@command -v npm > /dev/null || { echo "make lint-page needs npm, which is not installed:" \
	    "on Debian or Ubuntu, run apt-get install nodejs npm" >&2; exit 1; }
	npm ci --prefix $(PAGE_TOOLS) --no-audit --no-fund --silent
	@touch $@

# All benchmarks at a size that takes 15 minutes on two cores; writes to OUT. PHOTOS are folders. The
# large ones, whose results are in docs/evidence.md, have their own targets; bench-full runs them all.
OUT ?= benchmarks/results/quick
SMALL = $(if $(PHOTOS),--photos $(firstword $(PHOTOS)))
bench: $(VENV)/.dev
	@$(PIP) 'nciihash[bench-recall,bench-service]'
	$(BIN)/python -m benchmarks.search.run --rows 1e5 $(SMALL) --programs flat 16x16 11x23 numpy --out $(OUT)/search
	$(BIN)/python -m benchmarks.hashing.run $(if $(PHOTOS),--photos $(PHOTOS)) --out $(OUT)/hashing
	$(BIN)/python -m benchmarks.recall.run $(SMALL) --side 320 --most 60 --edited 15 --out $(OUT)
	$(BIN)/python -m benchmarks.veil.run $(SMALL) --rows 1e5 --crops 1500 --out $(OUT)/veil
	$(BIN)/python -m benchmarks.inversion.run $(SMALL) --quick --no-network --out $(OUT)/inversion
	$(BIN)/python -m benchmarks.scan.run $(SMALL) --rows 1e5 --asked 5e5 --local-only --out $(OUT)/scan
	$(BIN)/python -m benchmarks.service.run --rows 2e4 --seconds 4 --submissions 10 --out $(OUT)/service
	$(BIN)/python -m benchmarks.oracle.run --runs 2

# Detect regressions: compare the ratios of a new run with the stored ones.
bench-check:
	$(MAKE) bench OUT=build/bench PHOTOS="$(PHOTOS)"
	$(BIN)/python -m benchmarks.evidence --check build/bench --against benchmarks/results/quick

bench-full:
	for name in hashing search recall video veil inversion scan service page; do \
	    $(MAKE) bench-$$name PHOTOS="$(PHOTOS)" || exit 1; done
	$(BIN)/python -m benchmarks.evidence

# Hashing compared with peers: speed from file to hash, and equality of hashes; 10 minutes. PHOTOS are
# folders; by default scikit-image's few photos are used. The package perception requires another
# OpenCV and an old Rich, but works with these.
bench-hashing: $(VENV)/.dev
	@$(PIP) 'nciihash[bench-hashing]'
	@$(PIP) --no-deps 'perception>=0.9'
	$(BENCH_CORES) $(BIN)/python -m benchmarks.hashing.run $(if $(PHOTOS),--photos $(PHOTOS)) --rounds 9 \
	    --out benchmarks/results/hashing

# Recall of edited copies by set and by level, what is missed, false matches, and distances of different
# pictures; 10 seconds a photo. PHOTOS are folders, the bank; EDITED of them are edited; HARD is a
# folder. By default scikit-image's few photos are used.
bench-recall: $(VENV)/.dev
	@$(PIP) 'nciihash[bench-recall]'
	$(BIN)/python -m benchmarks.recall.run $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(HARD),--hard $(HARD)) \
	    $(if $(EDITED),--edited $(EDITED)) --out benchmarks/results

# False matches of windows among some 4,700 pictures, and their rate at scale; 15 minutes. PHOTOS and
# HARD are folders; wallpapers and paintings are downloaded from Debian's packages if apt-get exists.
bench-false-matches: $(VENV)/.dev
	@$(PIP) 'nciihash[bench-recall]'
	$(BIN)/python -m benchmarks.false_matches.run $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(HARD),--hard $(HARD)) \
	    --out benchmarks/results/false-matches

# Recall of altered copies of videos, and the cost of hashing compared with decoding; some minutes.
bench-video: $(VENV)/.dev
	$(BIN)/python -m benchmarks.video.run $(if $(VIDEOS),--videos $(VIDEOS)) --out benchmarks/results/video

# The survivor's page in Chromium, Firefox and WebKit: distances from Python's hashes, time and memory
# for large photos and long videos, requests, accessibility, sizes; some minutes. PHOTOS are folders.
bench-page: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python -m benchmarks.page.run $(if $(PHOTOS),--photos $(PHOTOS)) --out build/bench-page.json

# Mutated pictures and videos in the sandbox, for MINUTES.
MINUTES ?= 10
fuzz-files: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python tests/tools/fuzz_files.py --minutes $(MINUTES)

# Compare some 1,200 kinds of TIFF files with tifffile.
tiff-sweep: $(VENV)/.dev
	@$(PIP) 'nciihash[tiff-sweep]'
	PYTHONPATH=tests $(BIN)/python tests/tools/tiff_sweep.py

# Coverage-guided fuzzing of the parsers of untrusted input, for MINUTES in total.
fuzz-code: $(VENV)/.dev
	@$(PIP) 'nciihash[fuzz]'
	PYTHONPATH=tests $(BIN)/python tests/tools/fuzz_code.py --minutes $(MINUTES)

# Build the documentation as a website in build/site.
docs: $(VENV)/.dev
	@$(PIP) 'nciihash[docs]'
	@mkdir -p docs/plots && cp benchmarks/results/*.png docs/plots/
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --site-dir build/site

# Build the survivor's page as a single file for offline use, and the SHA-256 of it and of each file of
# the page, as the service lists them at /digests.json.
page: $(VENV)/.dev
	@mkdir -p build
	@$(BIN)/python -m clearinghouse.page.single_file build/page.html build/digests.json

# Screenshots of every screen of the survivor's page, for phone and desktop, light and dark; needs
# Chromium.
screenshots: $(VENV)/.dev
	PYTHONPATH=tests $(BIN)/python tests/tools/screenshots.py build/screenshots

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=/path/to/it" \
	    if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml requirements-dev.lock $(KERNEL) | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes a minute the first time."
	@$(PIP) --editable '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml requirements-dev.lock $(KERNEL) | $(VENV)/bin/python
	@echo "Installing into $(VENV), which takes a minute the first time."
	@$(PIP) --editable '.[dev,demo,bench]'
	@touch $@ $(VENV)/.demo

# Search compared with peers at 100 thousand to 10 million hashes; 20 minutes, 12 GB of memory. On one
# core, but scaling with threads is measured on all.
BENCH_CORES ?= taskset -c 0
SEARCH = $(BIN)/python -m benchmarks.search.run $(if $(PHOTOS),--photos $(PHOTOS))
bench-search: $(VENV)/.dev
	NCIIHASH_REQUIRE_KERNEL=1 $(PIP) --editable '.[dev,demo,bench,bench-search]'
	$(BENCH_CORES) $(SEARCH) --rows 1e5 --out benchmarks/results/search-all --programs flat 16x16 11x23 \
	    compact scrambled numkong numpy hnsw usearch usearch-hnsw threatexchange pybktree
	$(BENCH_CORES) $(SEARCH) --rows 1e6 --bank uniform --programs flat 16x16 11x23 --out benchmarks/results/search-uniform
	$(BENCH_CORES) $(SEARCH) --rows 1e6 --bank turned --programs flat 16x16 11x23 --out benchmarks/results/search-turned
	$(SEARCH) --rows 1e6 --programs compact --out benchmarks/results/search-threads
	$(BENCH_CORES) $(BIN)/python -m benchmarks.search.candidates $(if $(PHOTOS),--photos $(PHOTOS)) --rows 1e6 --out benchmarks/results/candidates
	$(BENCH_CORES) $(SEARCH) --rows 1e7 1e6 1e5 --radii --hostile --programs flat 16x16 11x23 --out benchmarks/results/search

# The service under load, compared with what platforms run today; 40 minutes. One core for the service
# and one for the load generator.
SOAK ?= 600
bench-service: $(VENV)/.dev
	$(PIP) 'nciihash[bench-service]'
	$(BIN)/python -m benchmarks.service.locks --out benchmarks/results/locks
	$(BIN)/python -m benchmarks.service.run --rows 1e5 1e6 --soak $(SOAK) --out benchmarks/results/service

# The gate next to hashing alone: processor time, latency, load, overload, memory; 20 minutes on two
# cores. PHOTOS are folders; by default scikit-image's few photos are used.
bench-gate: $(VENV)/.dev
	@$(PIP) 'nciihash[bench,gate]'
	$(BIN)/python -m benchmarks.gate.run $(if $(PHOTOS),--photos $(PHOTOS)) --uploads $(GATE_UPLOADS) \
	    --out benchmarks/results/gate
GATE_UPLOADS ?= 100000

# Scans of stored hashes on all cores and on a local Ray cluster of which a process is killed, and the
# estimated cost of large scans; some minutes, 5 GB of memory and disk.
SCAN_ROWS ?= 1e6 1e7
bench-scan: $(VENV)/.dev
	NCIIHASH_REQUIRE_KERNEL=1 $(PIP) --editable '.[dev,demo,bench-scan]'
	$(BIN)/python -m benchmarks.scan.run $(if $(PHOTOS),--photos $(PHOTOS)) --rows $(SCAN_ROWS) \
	    --out benchmarks/results/scan

# Candidates of a veiled list, and the cost of searching it and of an upload; some minutes.
bench-veil: $(VENV)/.dev
	$(BIN)/python -m benchmarks.veil.run $(if $(PHOTOS),--photos $(PHOTOS)) $(if $(HARD),--hard $(HARD)) \
	    --out benchmarks/results/veil

# What hashes reveal of their pictures, by scope and by set of variants; 20 minutes, some minutes with `QUICK=--quick`.
bench-inversion: $(VENV)/.dev
	@$(PIP) 'nciihash[bench-inversion]'
	$(BIN)/python -m benchmarks.inversion.run $(if $(PHOTOS),--photos $(PHOTOS)) $(QUICK) \
	    --out $(if $(QUICK),build/inversion,benchmarks/results/inversion)
	$(BIN)/python -m benchmarks.inversion.compare_sets $(if $(PHOTOS),--photos $(PHOTOS)) $(QUICK) \
	    --out $(if $(QUICK),build/inversion-sets,benchmarks/results/inversion-sets)

# Tests of the index under AddressSanitizer and UndefinedBehaviorSanitizer (gcc on Linux), in an
# environment with its own kernel that uses the packages of .venv. Without -s, pytest hides reports.
SANE := build/sanitize
SITE := -c 'import sysconfig; print(sysconfig.get_path("purelib"))'
sanitize: $(VENV)/.dev
	$(BIN)/python -m venv --clear $(SANE)
	$(BIN)/python $(SITE) > "$$($(SANE)/bin/python $(SITE))/borrowed.pth"
	NCIIHASH_REQUIRE_KERNEL=1 $(SANE)/bin/python -m pip --disable-pip-version-check install -qq \
	    --no-deps . -C cmake.build-type=Debug -C install.strip=false \
	    -C cmake.define.NCIIHASH_SANITIZE=ON
	cd tests && ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
	    PYTHONMALLOC=malloc NCIIHASH_REQUIRE_KERNEL=1 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
	    ../$(SANE)/bin/python -P -m pytest -s -p no:cacheprovider -o pythonpath=tests nciihash/search/test_index.py nciihash/search/test_kernel.py \
	    $(PYTEST_ARGS)

# Compare the kernels for ARM with a plain implementation, cross-compiled and in an emulator (Debian:
# g++-aarch64-linux-gnu and qemu-user).
ARM := aarch64-linux-gnu-g++ -std=c++17 -O2 -Wall -Wextra -Wno-psabi -static
kernels:
	@mkdir -p build/kernels
	$(ARM) -c nciihash/search/kernel/kernel.cpp -DNCIIHASH_ISA=portable -o build/kernels/portable.o
	$(ARM) -c nciihash/search/kernel/kernel.cpp -DNCIIHASH_ISA=neon -DNCIIHASH_USE_NEON -o build/kernels/neon.o
	$(ARM) -DNCIIHASH_HAS_neon tests/kernels/compare.cpp nciihash/search/kernel/tables.cpp build/kernels/portable.o \
	    build/kernels/neon.o -o build/kernels/compare -pthread
	qemu-aarch64 build/kernels/compare

# Build a reproducible wheel and sdist; then install the wheel in a new environment, list its packages
# (CycloneDX) and check them for known vulnerabilities.
dist: $(VENV)/.dev
	@$(PIP) 'nciihash[dist]'
	rm -rf dist build/dist
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv build/dist
	build/dist/bin/python -m pip --disable-pip-version-check install --quiet dist/*.whl
	cd build && dist/bin/python -c 'from nciihash.search.index import backend; print("the wheel searches with", backend())'
	$(BIN)/cyclonedx-py environment --output-reproducible --output-file dist/sbom.json build/dist/bin/python
	cd dist && sha256sum * | tee ../build/SHA256SUMS && mv ../build/SHA256SUMS .
	$(BIN)/pip-audit --path "$$(build/dist/bin/python $(SITE))"

# Pin the packages of the extras in a new environment, by name and version. The lock files for
# deployments and for building the wheel have the same versions, with hashes.
LOCKED = build/lock/bin/pip-compile --quiet --generate-hashes --no-header --strip-extras --no-annotate \
    --no-emit-index-url --no-emit-trusted-host --no-emit-find-links
lock:
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet '.[dev,demo,bench]'
	{ echo '# Made by `make lock`: what `make demo` and `make test` install.'; \
	  build/lock/bin/python -m pip --disable-pip-version-check freeze --exclude nciihash; \
	} > build/requirements && mv build/requirements requirements-dev.lock
	build/lock/bin/python -m pip --disable-pip-version-check install --quiet pip-tools
	rm -f build/requirements.lock
	$(LOCKED) --extra server --extra postgres --constraint requirements-dev.lock \
	    --output-file build/requirements.lock pyproject.toml
	{ echo '# Made by `make lock`: what the service and the library need to run, with the hashes of every build that'; \
	  echo '# the index has. pip install --require-hashes -r requirements-deploy.lock'; \
	  cat build/requirements.lock; } > build/requirements && mv build/requirements requirements-deploy.lock
	rm -f build/requirements.lock
	$(LOCKED) --only-build-deps --build-deps-for wheel --allow-unsafe \
	    --output-file build/requirements.lock pyproject.toml
	{ echo '# Made by `make lock`: what building the wheel needs, besides a C++ compiler, CMake and Ninja.'; \
	  cat build/requirements.lock; } > build/requirements && mv build/requirements requirements-build.lock
	rm -f build/requirements.lock
	rm -rf build/lock

clean:
	rm -rf $(VENV) build dist .coverage .coverage.* htmlcov
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache $(PAGE_TOOLS)/node_modules
