// AVX-512 VNNI: vpdpbusd adds four u8 x s8 products to an int32 lane, exactly, 64 products an
// instruction; one a cycle on Zen 4, two on Intel's server cores. 8 rows x 2 panels: 10 loads for 16
// vpdpbusd. Taller tiles measured slower: their row addresses no longer fit the general registers.
#if defined(__x86_64__)

#include "kernels/vec_avx512-inl.h"
// The vector comes first: the shared algorithms are written over it.
#include "kernels/gemm-inl.h"

#if !defined(__AVX512VNNI__)
#error "compile this file with the flags that kernels/flags.cmake gives it"
#endif

namespace vitrun {

extern const Kernels kAvx512Vnni;  // listed in isa.def

namespace {

struct VnniTile {
  static constexpr int kRows = 8, kPanels = 2, kDepthBytes = 1;
  static constexpr auto unpack = unpack_panel;

  template <int rows, int panels>
  static void multiply(const TileArgs& args) {
    __m512i sum[rows][panels];
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; p++) sum[i][p] = _mm512_setzero_si512();
    }
    for (int d = 0; d < args.depth; d += 4) {
      __m512i weights[panels];
#pragma GCC unroll 2
      for (int p = 0; p < panels; p++) weights[p] = _mm512_load_si512(args.w[p] + d * kColumns);
#pragma GCC unroll 8
      for (int i = 0; i < rows; i++) {
        int32_t four;
        std::memcpy(&four, args.a + i * args.a_stride + d, 4);
        const __m512i codes = _mm512_set1_epi32(four);
#pragma GCC unroll 2
        for (int p = 0; p < panels; p++) {
          sum[i][p] = _mm512_dpbusd_epi32(sum[i][p], codes, weights[p]);
        }
      }
    }
#pragma GCC unroll 8
    for (int i = 0; i < rows; i++) {
#pragma GCC unroll 2
      for (int p = 0; p < panels; p++) {
        _mm512_store_si512(args.sums + (i * kPanels + p) * kColumns, sum[i][p]);
      }
    }
  }
};

}  // namespace

const Kernels kAvx512Vnni = make_kernels("avx512vnni", gemm_tiles<VnniTile>);

}  // namespace vitrun

#endif
