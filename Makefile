# A short front to CMake and CTest: `make help` lists the targets.
PRESET ?= release
BUILD ?= $(if $(filter release,$(PRESET)),build,build-$(PRESET))
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
CMAKE_FLAGS ?=
TIER ?= full
FUZZ ?= build-fuzz
CHECKS := sources lint tidy capi python commands peers models determinism asan tsan corrupt fuzz soak guards coverage qemu
WITH_TESTS = -DBUILD_TESTING=ON $(if $(shell command -v mpicc),-DVITRUN_MPI=ON)
PARTS = LOAD_SECONDS="$(SECONDS)" FUZZ="$(abspath $(FUZZ))" CMAKE_FLAGS="$(CMAKE_FLAGS)" tests/checks/parts . $(BUILD)

all: configure
	cmake --build $(BUILD) -j$(JOBS)

help:
	@echo "make              the programs and the library, in $(BUILD)"
	@echo "make demo         run the embedded model on the embedded image"
	@echo "make test         unit, golden and command-line tests"
	@echo "make check        test, then a tier of checks: TIER=quick (CI), full (default), long (an hour or two under qemu too)"
	@echo "make check-NAME   one of: $(CHECKS)"
	@echo "make install      into PREFIX ($(PREFIX))"
	@echo "make deb          Debian packages, in build-deb"
	@echo "make aarch64      static programs for 64-bit ARM without the demo's model, in build-aarch64"
	@echo "make clean        remove every build folder"
	@echo "Variables: JOBS, BUILD, PRESET (CMakePresets.json), CMAKE_FLAGS; SECONDS a fuzz target and load test; FUZZ, its corpus"

configure:
	@cmake --preset $(PRESET) -B $(BUILD) $(CMAKE_FLAGS) $(TESTING) > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

test: TESTING = $(WITH_TESTS)
test: all
	ctest --test-dir $(BUILD) -L '^(unit|golden|cli)$$' --output-on-failure -j$(JOBS)

# The main job on the embedded model and image.
demo: TESTING = -DBUILD_TESTING=OFF
demo: all
	$(BUILD)/vitrun --demo

# Each part prints how long it took; what lacks a tool is named as SKIPPED at the end. tests/checks/parts defines them.
check: test
	$(PARTS) $(TIER)

$(CHECKS:%=check-%): TESTING = $(WITH_TESTS)
$(CHECKS:%=check-%): check-%: all
	$(PARTS) $*

# Short names of the parts that people run most.
lint fuzz guards coverage determinism qemu: %: check-%

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

# Debian packages vitrun, libvitrun0 and libvitrun-dev; needs dpkg-dev.
deb:
	cmake --preset release -B build-deb -DCMAKE_INSTALL_PREFIX=/usr -DBUILD_TESTING=OFF $(CMAKE_FLAGS) > /dev/null
	cmake --build build-deb -j$(JOBS)
	cd build-deb && cpack
	@ls -l build-deb/*.deb

# Needs g++-aarch64-linux-gnu.
aarch64:
	cmake --preset aarch64 -DBUILD_TESTING=OFF $(CMAKE_FLAGS) > /dev/null
	cmake --build build-aarch64 -j$(JOBS)
	cmake --install build-aarch64 --strip --prefix build-aarch64/install > /dev/null
	@ls -l build-aarch64/install/bin build-aarch64/install/lib*/libvitrun.*

clean:
	rm -rf $(BUILD) build-debug build-asan build-tsan build-coverage build-guards build-fuzz build-qemu build-aarch64 build-deb

.PHONY: all help configure test demo check $(CHECKS:%=check-%) \
  lint fuzz guards coverage determinism qemu install deb aarch64 clean
