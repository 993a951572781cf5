// AVX-512 VNNI. vpdpbusd makes 64 products; Zen 4 issues one per cycle, Intel's server cores two. A
// tile of 8 rows x 2 panels needs 10 loads for 16 vpdpbusd. Taller tiles are slower, because the
// addresses of their rows do not fit the general registers.
#if defined(__x86_64__)

#include "kernels/x86/vec_avx512-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/x86/words_avx512-inl.h"
// The words come next, because the GEMM is written over them.
#include "kernels/shared/gemm_dot-inl.h"

#if !defined(__AVX512VNNI__)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {
namespace {

inline Words dot_codes(Words sum, Words codes, Words w) {
  return {_mm512_dpbusd_epi32(sum.v, codes.v, w.v)};
}

}  // namespace

extern const Kernels kAvx512Vnni;  // isa.def lists it
const Kernels kAvx512Vnni = make_kernels("avx512vnni", gemm_dot<8, 2>);

}  // namespace vitrun

#endif
