#include "kernels/cpu.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace vitrun {
namespace {

bool has_bit(uint64_t value, int bit) {
  return value >> bit & 1;
}

bool has_all(uint64_t value, uint64_t mask) {
  return (value & mask) == mask;
}

constexpr int kAmxTileBit = 24, kAmxInt8Bit = 25;  // bits of EDX in leaf 7

#if defined(__x86_64__)
uint64_t read_xcr0() {
  uint32_t low, high;
  __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t{high} << 32 | low;
}

// A process must ask Linux once for the tile registers (Documentation/arch/x86/xstate.rst, since
// 5.16). Other systems have no such call, and there the answer is no.
bool request_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

X86Raw read_raw() {
  X86Raw raw;
  uint32_t eax, ebx, ecx, edx;
  if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx)) return raw;
  raw.leaf1_ecx = ecx;
  if (has_bit(ecx, 27)) raw.xcr0 = read_xcr0();  // OSXSAVE says that XGETBV exists
  if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) return raw;
  raw.leaf7_ebx = ebx;
  raw.leaf7_ecx = ecx;
  raw.leaf7_edx = edx;
  if (has_bit(edx, kAmxTileBit)) raw.tiles_granted = request_tiles();
  if (eax >= 1 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx)) raw.leaf7_1_eax = eax;
  return raw;
}
#endif

uint32_t detect() {
#if defined(__x86_64__)
  return x86_features(read_raw());
#elif defined(__aarch64__)
  return arm_features(getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
#else
  return 0;
#endif
}

}  // namespace

// The bit numbers are from the Intel SDM: volume 2A for CPUID, volume 1, section 13.3 for XCR0.
uint32_t x86_features(const X86Raw& raw) {
  // State bits of XCR0: XMM and YMM; opmask, ZMM0-15 and ZMM16-31; tile configuration and data.
  constexpr uint64_t kXmmYmm = 0x06, kZmm = 0xE0, kTiles = 0x60000;
  const bool os_avx = has_bit(raw.leaf1_ecx, 27) && has_all(raw.xcr0, kXmmYmm);
  const bool avx_fma = has_bit(raw.leaf1_ecx, 28) && has_bit(raw.leaf1_ecx, 12);
  if (!os_avx || !avx_fma || !has_bit(raw.leaf7_ebx, 5)) return 0;
  uint32_t features = kCpuAvx2;
  if (has_bit(raw.leaf7_1_eax, 4)) features |= kCpuAvxVnni;
  constexpr uint64_t kFDqBwVl = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;
  if (!has_all(raw.xcr0, kZmm) || !has_all(raw.leaf7_ebx, kFDqBwVl)) return features;
  features |= kCpuAvx512;
  if (has_bit(raw.leaf7_ecx, 11)) features |= kCpuAvx512Vnni;
  const bool tiles = has_bit(raw.leaf7_edx, kAmxTileBit) && has_bit(raw.leaf7_edx, kAmxInt8Bit);
  if (tiles && has_all(raw.xcr0, kTiles) && raw.tiles_granted) features |= kCpuAmxInt8;
  return features;
}

// The bit numbers are from Linux's arch/arm64/include/uapi/asm/hwcap.h: ASIMD is 1 and ASIMDDP 20
// of HWCAP, I8MM 13 of HWCAP2.
uint32_t arm_features(uint64_t hwcap, uint64_t hwcap2) {
  if (!has_bit(hwcap, 1)) return 0;
  uint32_t features = kCpuNeon;
  if (!has_bit(hwcap, 20)) return features;
  features |= kCpuDotProd;
  if (has_bit(hwcap2, 13)) features |= kCpuI8mm;
  return features;
}

uint32_t cpu_features() {
  static const uint32_t features = detect();
  return features;
}

}  // namespace vitrun
