// The peak rate of an ISA, measured with loops that do not touch memory. It is the denominator of
// "% of peak".
#include <algorithm>
#include <chrono>

#include "bench/vitbench/vitbench.h"

namespace vitrun {

double percentile(std::vector<double> values, double p) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(p * static_cast<double>(values.size() - 1))];
}

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

#if defined(__x86_64__)
// Twelve independent accumulators hide the latency. The loops are assembly, so that this file needs
// no flags of an ISA.
#define TWELVE(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define CLOBBERS                                                                           \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#define PEAK_LOOP(name, STEP)                                  \
  void name(long n) {                                          \
    for (long k = 0; k < n; k++) {                             \
      __asm__ volatile(TWELVE(STEP) TWELVE(STEP)::: CLOBBERS); \
    }                                                          \
    __asm__ volatile("vzeroupper" ::: CLOBBERS);               \
  }

#define DOT_ZMM(i) "vpdpbusd %%zmm14,%%zmm15,%%zmm" #i "\n"
#define DOT_YMM(i) "%{vex%} vpdpbusd %%ymm14,%%ymm15,%%ymm" #i "\n"
#define SHORT_YMM(i) "vpmaddubsw %%ymm14,%%ymm15,%%ymm13\n vpaddw %%ymm13,%%ymm" #i ",%%ymm" #i "\n"
#define SHORT_ZMM(i) "vpmaddubsw %%zmm14,%%zmm15,%%zmm13\n vpaddw %%zmm13,%%zmm" #i ",%%zmm" #i "\n"
#define EXACT_YMM(i)                                                        \
  "vpmaddubsw %%ymm14,%%ymm15,%%ymm13\n vpmaddwd %%ymm12,%%ymm13,%%ymm13\n" \
  "vpaddd %%ymm13,%%ymm" #i ",%%ymm" #i "\n"
#define EXACT_ZMM(i)                                                        \
  "vpmaddubsw %%zmm14,%%zmm15,%%zmm13\n vpmaddwd %%zmm12,%%zmm13,%%zmm13\n" \
  "vpaddd %%zmm13,%%zmm" #i ",%%zmm" #i "\n"

#define WIDE_YMM(i) "vpmaddwd %%ymm14,%%ymm15,%%ymm13\n vpaddd %%ymm13,%%ymm" #i ",%%ymm" #i "\n"
#define WIDE_ZMM(i) "vpmaddwd %%zmm14,%%zmm15,%%zmm13\n vpaddd %%zmm13,%%zmm" #i ",%%zmm" #i "\n"

PEAK_LOOP(dot_zmm, DOT_ZMM)
PEAK_LOOP(dot_ymm, DOT_YMM)
PEAK_LOOP(short_ymm, SHORT_YMM)
PEAK_LOOP(short_zmm, SHORT_ZMM)
PEAK_LOOP(exact_ymm, EXACT_YMM)
PEAK_LOOP(exact_zmm, EXACT_ZMM)
PEAK_LOOP(wide_ymm, WIDE_YMM)
PEAK_LOOP(wide_zmm, WIDE_ZMM)

#define TILES_4                                             \
  "tdpbusd %tmm6,%tmm4,%tmm0\n tdpbusd %tmm7,%tmm4,%tmm1\n" \
  "tdpbusd %tmm6,%tmm5,%tmm2\n tdpbusd %tmm7,%tmm5,%tmm3\n"

// A step of the loop makes 24 products of whole tiles.
void tiles(long n) {
  alignas(64) static const struct {
    uint8_t palette = 1, start_row = 0, reserved[14] = {};
    uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  } config;
  __asm__ volatile("ldtilecfg %0" ::"m"(config));
  for (long k = 0; k < n; k++) __asm__ volatile(TILES_4 TILES_4 TILES_4 TILES_4 TILES_4 TILES_4);
  __asm__ volatile("tilerelease");
}
#endif

struct Loop {
  void (*run)(long) = nullptr;
  double operations = 0;  // per instruction; a step has 24 instructions
};

Loop peak_loop([[maybe_unused]] const std::string& isa, [[maybe_unused]] PeakKind kind) {
#if defined(__x86_64__)
  if (isa == "amx") return {tiles, 2.0 * 16 * 16 * 64};
  if (isa == "avx512vnni") return {dot_zmm, 128};
  if (isa == "avxvnni") return {dot_ymm, 64};
  if (isa == "avx512") {
    if (kind == PeakKind::kWide) return {wide_zmm, 64};
    return {kind == PeakKind::kShort ? short_zmm : exact_zmm, 128};
  }
  if (isa == "avx2") {
    if (kind == PeakKind::kWide) return {wide_ymm, 32};
    return {kind == PeakKind::kShort ? short_ymm : exact_ymm, 64};
  }
#endif
  return {};
}

}  // namespace

double sample_peak(const std::string& isa, PeakKind kind) {
  const Loop loop = peak_loop(isa, kind);
  if (!loop.run) return 0;
  // This takes about 100 us on a 3 GHz core.
  const long steps = isa == "amx" ? 800 : 10000;
  const double start = now_seconds();
  loop.run(steps);
  return 24 * static_cast<double>(steps) * loop.operations / (now_seconds() - start);
}

}  // namespace vitrun
