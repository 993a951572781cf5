// AVX-512 BW without VNNI (Skylake-X). The algorithms are those of avx2.cc, on registers twice as
// wide.
#if defined(__x86_64__)

#include "kernels/x86/vec_avx512-inl.h"
// The vector comes first, because the shared algorithms are written over it.
#include "kernels/x86/words_avx512-inl.h"
// The words come next, because the GEMM is written over them.
#include "kernels/shared/gemm_pairs-inl.h"
#include "kernels/shared/rowops-inl.h"

namespace vitrun {

extern const Kernels kAvx512;  // isa.def lists it
const Kernels kAvx512 = make_kernels("avx512", gemm_pairs);

}  // namespace vitrun

#endif
