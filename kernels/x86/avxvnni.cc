// AVX-VNNI (Alder Lake and later, Zen 5). vpdpbusd makes 32 products in AVX2 registers. A tile of
// 6 rows x 1 panel keeps its sums in 12 of the 16 registers.
#if defined(__x86_64__)

#include "kernels/x86/vec_avx2-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/x86/words_avx2-inl.h"
// The words come next, because the GEMM is written over them.
#include "kernels/shared/gemm_dot-inl.h"

// AVX-512 has the same instruction in its own encoding, which lets a test run this file on CPUs
// that lack the VEX form.
#if !defined(__AVXVNNI__) && !(defined(__AVX512VNNI__) && defined(__AVX512VL__))
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

inline Words dot_codes(Words sum, Words codes, Words w) {
  return {_mm256_dpbusd_epi32(sum.v, codes.v, w.v)};
}

}  // namespace

extern const Kernels kAvxVnni;  // isa.def lists it
const Kernels kAvxVnni = make_kernels("avxvnni", gemm_dot<6, 1>);

}  // namespace vitrun

#endif
