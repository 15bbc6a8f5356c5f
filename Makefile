# The few commands of this project; CMake does the building. `make help` lists them.
#   TESTS=word   only tests whose name contains the word (make test)
#   IMAGE=name   pull this image instead of assembling one (make try)
SHELL := /bin/bash
JOBS ?= $(shell nproc)
PRESET ?= release

.PHONY: help build build-all deps deps-test try test asan tsan bench fuzz format tidy clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' Makefile | expand -t 20

build: build/build.ninja ## crispd, crisp-shim, crispctl and crisp-oci into build/bin, crispctl's manual into build/man
	@cmake --build build -j $(JOBS) --target crispd crisp-shim crispctl crisp-oci crispctl_man

build-all: build/build.ninja # the programs and all tests
	@cmake --build build -j $(JOBS)

build/build.ninja: CMakeLists.txt CMakePresets.json
	@cmake --preset $(PRESET) > build.log 2>&1 || { cat build.log; rm -f build.log; exit 1; }
	@rm -f build.log

deps: ## install what is missing to build and run (root)
	@tools/deps build run

deps-test:
	@tools/deps build run test

try: deps ## build, run a pod, show it, remove everything (root)
	@$(MAKE) --no-print-directory build
	@tools/try

test: deps-test ## all tests (root for those that need namespaces)
	@$(MAKE) --no-print-directory build-all
	@tools/run-tests --build build $(if $(TESTS),--filter $(TESTS))

asan: deps-test ## all tests under AddressSanitizer and UBSan
	@cmake --preset asan > /dev/null && cmake --build build/asan -j $(JOBS)
	@tools/run-tests --build build/asan $(if $(TESTS),--filter $(TESTS))

tsan: deps-test ## all tests under ThreadSanitizer
	@cmake --preset tsan > /dev/null && cmake --build build/tsan -j $(JOBS)
	@tools/run-tests --build build/tsan $(if $(TESTS),--filter $(TESTS))

bench: ## measure floor, crisp and Debian's containerd side by side (root)
	@tools/deps build run test bench
	@$(MAKE) --no-print-directory build
	@cmake --build build -j $(JOBS) --target podbench floor
	@bench/run
	@bench/pull

fuzz: ## each fuzz target for FUZZ_SECONDS (60) with libFuzzer
	@tools/deps build check
	@tools/fuzz

format: ## clang-format over our sources
	@tools/deps check
	@git ls-files '*.cc' '*.h' | xargs clang-format-19 -i

tidy: ## clang-tidy over our sources
	@tools/deps check
	@cmake --preset dev -DCMAKE_EXPORT_COMPILE_COMMANDS=ON > /dev/null
	@cmake --build build/dev -j $(JOBS) --target crisp_cri_api crisp_cri_api_full crisp_nri_api  # headers that are generated
	@git ls-files 'src/*.cc' | xargs -P $(JOBS) -n 4 clang-tidy-19 -p build/dev --quiet

clean: ## remove build/
	@rm -rf build
