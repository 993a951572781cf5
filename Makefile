# A short front to CMake. JOBS, BUILD and PREFIX may be set; see CONTRIBUTING.md.
BUILD ?= build
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
CMAKE_FLAGS ?=

all: configure
	cmake --build $(BUILD) -j$(JOBS)

configure:
	@cmake -S . -B $(BUILD) $(CMAKE_FLAGS) > $(BUILD).log 2>&1 || { cat $(BUILD).log; exit 1; }
	@rm -f $(BUILD).log

test: CMAKE_FLAGS += -DBUILD_TESTING=ON $(if $(shell command -v mpicc),-DVITRUN_MPI=ON)
test: all
	ctest --test-dir $(BUILD) --output-on-failure -j$(JOBS)

# The main job on the embedded model and image.
demo: CMAKE_FLAGS += -DBUILD_TESTING=OFF
demo: all
	$(BUILD)/vitrun --demo

# The suite under sanitizers (tests/checks/tsan.supp says what of it ThreadSanitizer leaves out), what reads the sources, and SECONDS
# of mixed load: longer than CI.
check: SECONDS = 600
check: test lint
	$(MAKE) test BUILD=build-asan CMAKE_FLAGS="$(CMAKE_FLAGS) -DVITRUN_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo"
	TSAN_OPTIONS=suppressions=$(CURDIR)/tests/checks/tsan.supp \
	  $(MAKE) test BUILD=build-tsan CMAKE_FLAGS="$(CMAKE_FLAGS) -DVITRUN_SANITIZE=thread -DCMAKE_BUILD_TYPE=RelWithDebInfo"
	cmake -S . -B build-tsan-library -DVITRUN_SANITIZE=thread -DVITRUN_TOOLS=OFF -DVITRUN_PROGRAMS=OFF -DBUILD_TESTING=OFF \
	  -DCMAKE_BUILD_TYPE=RelWithDebInfo > /dev/null
	cmake --build build-tsan-library -j$(JOBS)
	$(CC) -O2 -fsanitize=thread -Iruntime/api runtime/api/examples/threads.c build-tsan-library/libvitrun.a -lstdc++ -lm -o build-tsan-library/threads
	build-tsan-library/threads models/cifar10/vit.qbin 8 1000
	tests/checks/soak $(SECONDS) $(CURDIR) $(BUILD)

# What tools say about the sources; needs clang-tidy and cppcheck.
lint: all
	tests/checks/lint $(CURDIR) $(BUILD)

# Lines that the suite runs, by file and folder; needs gcovr.
coverage:
	$(MAKE) all BUILD=build-coverage CMAKE_FLAGS="$(CMAKE_FLAGS) -DCMAKE_CXX_FLAGS='--coverage -fprofile-update=atomic' -DCMAKE_BUILD_TYPE=Debug -DBUILD_TESTING=ON"
	find build-coverage -name '*.gcda' -delete  # of another build: programs would complain on stderr
	ctest --test-dir build-coverage -E "check_|lint" -j$(JOBS) > build-coverage/ctest.log || { cat build-coverage/ctest.log; exit 1; }
	tests/checks/coverage $(CURDIR) build-coverage

# Six guards taken out in turn: a test must fail each time.
guards:
	tests/checks/check_guards $(CURDIR) build-guards

# Debian packages vitrun, libvitrun0 and libvitrun-dev, into build-deb; needs dpkg-dev.
deb:
	cmake -S . -B build-deb -DCMAKE_INSTALL_PREFIX=/usr -DBUILD_TESTING=OFF $(CMAKE_FLAGS) > /dev/null
	cmake --build build-deb -j$(JOBS)
	cd build-deb && cpack
	@ls -l build-deb/*.deb

# Static programs and the library for 64-bit ARM, into build-aarch64; needs g++-aarch64-linux-gnu.
aarch64:
	cmake -S . -B build-aarch64 --toolchain runtime/aarch64.cmake -DVITRUN_TOOLS=OFF -DBUILD_TESTING=OFF > /dev/null
	cmake --build build-aarch64 -j$(JOBS)
	cmake --install build-aarch64 --strip --prefix build-aarch64/install > /dev/null
	@ls -l build-aarch64/install/bin build-aarch64/install/lib*/libvitrun.*

# One logits hash on every machine at hand; ARM needs qemu-user and g++-aarch64-linux-gnu.
determinism: test
	tests/checks/check_determinism $(CURDIR) $(BUILD)

# The whole suite on three ARM cores under qemu: an hour or two, longer than CI, whose check_determinism runs a part.
qemu:
	tests/checks/qemu $(CURDIR) build-qemu

# Every reader of untrusted bytes, the C ABI and the kernels under sanitizers, SECONDS a target; needs clang. What was found
# and executed is kept in FUZZ and added to.
SECONDS ?= 60
FUZZ ?= build-fuzz
fuzz: all
	tests/fuzz/run $(CURDIR) $(BUILD) $(FUZZ) $(SECONDS)

install: all
	cmake --install $(BUILD) --prefix $(PREFIX)

clean:
	rm -rf $(BUILD) build-asan build-tsan build-tsan-library build-qemu build-coverage build-guards build-fuzz build-aarch64 build-deb

.PHONY: all configure test demo check lint coverage guards aarch64 deb determinism qemu fuzz install clean
