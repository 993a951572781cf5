// Tests the CPU features found in raw values of real machines, and the choice of kernels by name.
#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "kernels/cpu.h"
#include "kernels/registry.h"

namespace vitrun {
namespace {

// Raw values as `cpuid -r` prints them for an AMD EPYC 9004 (Zen 4) under Linux.
X86Raw zen4() {
  X86Raw raw;
  raw.leaf1_ecx = 0xfffa3203;
  raw.leaf7_ebx = 0xf1bf97a9;
  raw.leaf7_ecx = 0x00405fce;
  raw.leaf7_1_eax = 0x00000020;  // AVX512_BF16 only
  raw.xcr0 = 0x2e7;
  return raw;
}

TEST_CASE("x86 features need the instructions and the operating system's consent") {
  X86Raw raw = zen4();
  CHECK(x86_features(raw) == (kCpuAvx2 | kCpuAvx512 | kCpuAvx512Vnni));
  raw.xcr0 = 0x07;  // the system does not save the ZMM registers
  CHECK(x86_features(raw) == kCpuAvx2);
  raw.xcr0 = 0x03;  // the system does not save the YMM registers either
  CHECK(x86_features(raw) == 0);
  raw = zen4();
  raw.leaf1_ecx &= ~(1u << 27);  // without OSXSAVE, XCR0 means nothing
  CHECK(x86_features(raw) == 0);
  raw = zen4();
  raw.leaf1_ecx &= ~(1u << 12);  // AVX2 without FMA
  CHECK(x86_features(raw) == 0);
}

TEST_CASE("x86 features of other machines") {
  CHECK(x86_features(X86Raw{}) == 0);
  X86Raw alder_lake = zen4();
  alder_lake.leaf7_ebx = 0x239c27a9;  // AVX2, no AVX-512
  alder_lake.leaf7_1_eax = 0x00400810;
  alder_lake.xcr0 = 0x07;
  CHECK(x86_features(alder_lake) == (kCpuAvx2 | kCpuAvxVnni));
  X86Raw skylake_x = zen4();
  skylake_x.leaf7_ecx = 0;
  skylake_x.leaf7_1_eax = 0;
  CHECK(x86_features(skylake_x) == (kCpuAvx2 | kCpuAvx512));
  X86Raw knights_landing = zen4();
  knights_landing.leaf7_ebx &= ~(1u << 30);  // AVX-512 F without BW
  CHECK(x86_features(knights_landing) == kCpuAvx2);
}

TEST_CASE("tiles need the bits, the saved state and the process's permission") {
  X86Raw sapphire_rapids = zen4();
  sapphire_rapids.leaf7_edx = 1u << 24 | 1u << 25;  // AMX-TILE, AMX-INT8
  sapphire_rapids.xcr0 = 0x602e7;
  CHECK((x86_features(sapphire_rapids) & kCpuAmxInt8) == 0);
  sapphire_rapids.tiles_granted = true;
  CHECK((x86_features(sapphire_rapids) & kCpuAmxInt8) == kCpuAmxInt8);
  X86Raw raw = sapphire_rapids;
  raw.xcr0 = 0x202e7;  // the tile data is not saved
  CHECK((x86_features(raw) & kCpuAmxInt8) == 0);
  raw = sapphire_rapids;
  raw.leaf7_edx = 1u << 24 | 1u << 22;  // AMX-BF16 only
  CHECK((x86_features(raw) & kCpuAmxInt8) == 0);
}

TEST_CASE("arm features") {
  CHECK(arm_features(0, 0) == 0);
  CHECK(arm_features(0xff, 0) == kCpuNeon);                      // Cortex-A57, A72
  CHECK(arm_features(0x100fff, 0) == (kCpuNeon | kCpuDotProd));  // Cortex-A76
  CHECK(arm_features(0x100fff, 1 << 13) == (kCpuNeon | kCpuDotProd | kCpuI8mm));
  CHECK(arm_features(0xff, 1 << 13) == kCpuNeon);
}

// Sets VITRUN_ISA for one scope.
struct ScopedIsa {
  std::string old;
  bool had;
  explicit ScopedIsa(const char* value) : had(std::getenv("VITRUN_ISA") != nullptr) {
    if (had) old = std::getenv("VITRUN_ISA");
    setenv("VITRUN_ISA", value, 1);
  }
  ~ScopedIsa() {
    if (had) {
      setenv("VITRUN_ISA", old.c_str(), 1);
    } else {
      unsetenv("VITRUN_ISA");
    }
  }
};

TEST_CASE("scalar is compiled last and supported everywhere") {
  REQUIRE(!compiled_kernels().empty());
  const Kernels& last = *compiled_kernels().back();
  CHECK(std::string(last.name) == "scalar");
  CHECK(is_supported(last));
}

TEST_CASE("find_kernels: the option before VITRUN_ISA before the best") {
  ScopedIsa isa("");
  const Kernels* best = find_kernels(nullptr);
  REQUIRE(best);
  CHECK(std::string(isa_names()).rfind(best->name, 0) == 0);
  CHECK(find_kernels("") == best);
  CHECK(std::string(find_kernels("scalar")->name) == "scalar");
  {
    ScopedIsa scalar("scalar");
    CHECK(std::string(find_kernels(nullptr)->name) == "scalar");
    CHECK(find_kernels(best->name) == best);
  }
  ScopedIsa unknown("avx1024");
  CHECK(find_kernels(nullptr) == nullptr);
}

TEST_CASE("find_kernels refuses unknown and unsupported names") {
  CHECK(find_kernels("avx1024") == nullptr);
  CHECK(find_kernels("scala") == nullptr);
  for (const Kernels* kernels : compiled_kernels()) {
    CHECK(find_kernels(kernels->name) == (is_supported(*kernels) ? kernels : nullptr));
  }
  const Kernels stranger{};
  CHECK(!is_supported(stranger));
}

}  // namespace
}  // namespace vitrun
