// AVX2: vpmaddubsw where int16 sums are provably exact, vpmaddwd where not (gemm_pairs-inl.h).
#if defined(__x86_64__)

#include "kernels/x86/vec_avx2-inl.h"
// The vector comes first: the shared algorithms are written over it.
#include "kernels/x86/words_avx2-inl.h"
// Then the words.
#include "kernels/shared/gemm_pairs-inl.h"
#include "kernels/shared/rowops-inl.h"

namespace vitrun {

extern const Kernels kAvx2;  // listed in isa.def
const Kernels kAvx2 = make_kernels("avx2", gemm_pairs);

}  // namespace vitrun

#endif
