// What the CPU and the operating system can run. The decision is a pure function of the raw
// register or auxiliary-vector values, so that the tests can ask it about any machine.
#pragma once

#include <cstdint>

namespace vitrun {

enum CpuFeature : uint32_t {
  kCpuAvx2 = 1 << 0,        // and FMA
  kCpuAvxVnni = 1 << 1,     // the VEX form, on top of AVX2
  kCpuAvx512 = 1 << 2,      // F, BW, DQ and VL, on top of AVX2
  kCpuAvx512Vnni = 1 << 3,  // on top of kCpuAvx512
  kCpuNeon = 1 << 4,
  kCpuDotProd = 1 << 5,
  kCpuI8mm = 1 << 6,
  kCpuAmxInt8 = 1 << 7,  // on top of kCpuAvx512
};

// CPUID leaves 1, 7.0 and 7.1 and XCR0; 0 for a leaf or register that does not exist.
struct X86Raw {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0;
  uint32_t leaf7_1_eax = 0;
  uint64_t xcr0 = 0;
  bool tiles_granted = false;  // Linux lets this process use AMX's tile registers
};

// CpuFeature bits, each only if the operating system also saves the registers it needs.
uint32_t x86_features(const X86Raw& raw);
// From AT_HWCAP and AT_HWCAP2 of Linux on aarch64.
uint32_t arm_features(uint64_t hwcap, uint64_t hwcap2);

// Of the machine this runs on; asked once.
uint32_t cpu_features();

}  // namespace vitrun
