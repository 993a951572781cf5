// What the arithmetic units can do with no memory at all: the denominator of "% of peak".
#include <algorithm>
#include <chrono>

#include "bench/vitbench.h"

namespace vitrun {

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

namespace {

#if defined(__x86_64__)
// Twelve independent accumulators hide the latency. Assembly, so that no flag leaks into this file.
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
#endif

double rate(void (*loop)(long), double operations_per_step) {
  constexpr long kSteps = 200000;
  double best = 1e9;
  for (int r = 0; r < 15; r++) {
    const double start = now_seconds();
    loop(kSteps);
    best = std::min(best, now_seconds() - start);
  }
  return 24 * kSteps * operations_per_step / best;
}

}  // namespace

double measure_peak([[maybe_unused]] const std::string& isa, [[maybe_unused]] PeakKind kind) {
#if defined(__x86_64__)
  if (isa == "avx512vnni") return rate(dot_zmm, 128);
  if (isa == "avxvnni") return rate(dot_ymm, 64);
  const bool zmm = isa == "avx512";
  if (!zmm && isa != "avx2") return 0;
  if (kind == PeakKind::kShort) return zmm ? rate(short_zmm, 128) : rate(short_ymm, 64);
  if (kind == PeakKind::kExact) return zmm ? rate(exact_zmm, 128) : rate(exact_ymm, 64);
  return zmm ? rate(wide_zmm, 64) : rate(wide_ymm, 32);
#else
  return 0;
#endif
}

}  // namespace vitrun
