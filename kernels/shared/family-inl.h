// The table of an ISA. It joins the ISA's own GEMM with the row kernels of its family. A family is
// the ISAs that share a vector header (vec_*-inl.h), which names it in VITRUN_FAMILY. Its row
// kernels exist once: the family's first ISA compiles them by including rowops-inl.h.
#pragma once

#include <type_traits>

#include "kernels/kernels.h"

namespace vitrun {

// The function type behind a pointer of the table.
template <class Pointer>
using Called = std::remove_pointer_t<Pointer>;

namespace VITRUN_FAMILY {
Called<decltype(Kernels::layernorm)> layernorm_rows;
Called<decltype(Kernels::layernorm_codes)> layernorm_codes_rows;
Called<decltype(Kernels::quantize)> quantize_rows;
Called<decltype(Kernels::quantize_by_row)> quantize_rows_by_range;
Called<decltype(Kernels::layernorm_by_row)> layernorm_rows_by_range;
Called<decltype(Kernels::quantize_columns)> quantize_column_rows;
Called<decltype(Kernels::quantize_heads)> quantize_head_rows;
Called<decltype(Kernels::softmax_codes)> softmax_codes_rows;
Called<decltype(Kernels::sum_rows)> sum_code_rows;
Called<decltype(Kernels::map_rows)> map_code_rows;
Called<decltype(Kernels::pack_rows)> pack_row_panels;
Called<decltype(Kernels::pack_columns)> pack_column_panels;
Called<decltype(Kernels::combine_planes)> combine_plane_rows;
Called<decltype(Kernels::sum_planes)> sum_plane_rows;
Called<decltype(Kernels::exp)> exp_floats;
Called<decltype(Kernels::activate)> activate_floats;
}  // namespace VITRUN_FAMILY

namespace {

constexpr Kernels make_kernels(const char* name, void (*gemm)(const GemmArgs&)) noexcept {
  return {name,
          gemm,
          VITRUN_FAMILY::layernorm_rows,
          VITRUN_FAMILY::layernorm_codes_rows,
          VITRUN_FAMILY::quantize_rows,
          VITRUN_FAMILY::quantize_rows_by_range,
          VITRUN_FAMILY::layernorm_rows_by_range,
          VITRUN_FAMILY::quantize_column_rows,
          VITRUN_FAMILY::quantize_head_rows,
          VITRUN_FAMILY::softmax_codes_rows,
          VITRUN_FAMILY::sum_code_rows,
          VITRUN_FAMILY::map_code_rows,
          VITRUN_FAMILY::pack_row_panels,
          VITRUN_FAMILY::pack_column_panels,
          VITRUN_FAMILY::combine_plane_rows,
          VITRUN_FAMILY::sum_plane_rows,
          VITRUN_FAMILY::exp_floats,
          VITRUN_FAMILY::activate_floats};
}

}  // namespace
}  // namespace vitrun
