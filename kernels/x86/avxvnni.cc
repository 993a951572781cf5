// AVX-VNNI: vpdpbusd on AVX2 registers, 32 products an instruction (Alder Lake on, Zen 5). 6 rows x
// 1 panel keep 12 of the 16 registers as sums.
#if defined(__x86_64__)

#include "kernels/x86/vec_avx2-inl.h"
// The vector comes first: the shared algorithms are written over it.
#include "kernels/x86/words_avx2-inl.h"
// Then the words.
#include "kernels/shared/gemm_dot-inl.h"

// AVX-512's encoding of the same instruction lets a test run this file on CPUs that lack the VEX
// form.
#if !defined(__AVXVNNI__) && !(defined(__AVX512VNNI__) && defined(__AVX512VL__))
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

inline Words dot_codes(Words sum, Words codes, Words w) {
  return {_mm256_dpbusd_epi32(sum.v, codes.v, w.v)};
}

}  // namespace

extern const Kernels kAvxVnni;  // listed in isa.def
const Kernels kAvxVnni = make_kernels("avxvnni", gemm_dot<6, 1>);

}  // namespace vitrun

#endif
