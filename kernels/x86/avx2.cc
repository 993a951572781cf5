// AVX2. The GEMM uses vpmaddubsw where int16 sums are exact and vpmaddwd elsewhere
// (gemm_pairs-inl.h).
#if defined(__x86_64__)

#include "kernels/x86/vec_avx2-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/x86/words_avx2-inl.h"
// The words come next, because the GEMM is written over them.
#include "kernels/shared/gemm_pairs-inl.h"
#include "kernels/shared/rowops-inl.h"

namespace vitrun {

extern const Kernels kAvx2;  // isa.def lists it
const Kernels kAvx2 = make_kernels("avx2", gemm_pairs);

}  // namespace vitrun

#endif
