// Finds the instruction sets that the CPU and the operating system support. The decision is a pure
// function of raw register or auxiliary-vector values, so that the tests can ask it about any
// machine.
#pragma once

#include <cstdint>

namespace vitrun {

enum CpuFeature : uint32_t {
  kCpuAvx2 = 1 << 0,        // AVX2 and FMA
  kCpuAvxVnni = 1 << 1,     // VNNI in VEX encoding; implies kCpuAvx2
  kCpuAvx512 = 1 << 2,      // AVX-512 F, BW, DQ and VL; implies kCpuAvx2
  kCpuAvx512Vnni = 1 << 3,  // implies kCpuAvx512
  kCpuNeon = 1 << 4,
  kCpuDotProd = 1 << 5,
  kCpuI8mm = 1 << 6,
  kCpuAmxInt8 = 1 << 7,  // implies kCpuAvx512
};

// Registers of CPUID leaves 1, 7.0 and 7.1, and XCR0. A leaf or register that does not exist is 0.
struct X86Raw {
  uint32_t leaf1_ecx = 0;
  uint32_t leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0;
  uint32_t leaf7_1_eax = 0;
  uint64_t xcr0 = 0;
  bool tiles_granted = false;  // whether Linux lets this process use AMX's tile registers
};

// CpuFeature bits. A bit is set only if the operating system also saves the registers it needs.
uint32_t x86_features(const X86Raw& raw);
// CpuFeature bits from AT_HWCAP and AT_HWCAP2 of Linux on aarch64.
uint32_t arm_features(uint64_t hwcap, uint64_t hwcap2);

// CpuFeature bits of this machine, determined at the first call.
uint32_t cpu_features();

}  // namespace vitrun
