// Runs through the C ABI that ask for the logits alone.
#pragma once

#include <span>

#include "runtime/api/vitrun.h"

namespace vitrun {

inline vit_status run_float(vit_session* session, const float* images, int batch,
                            std::span<float> logits) {
  const vit_output out = {"logits", logits.data(), logits.size()};
  return vit_session_run_float(session, images, batch, &out, 1);
}

inline vit_status run_rgb(vit_session* session, const uint8_t* rgb, int width, int height,
                          ptrdiff_t row_bytes, std::span<float> logits) {
  const vit_output out = {"logits", logits.data(), logits.size()};
  return vit_session_run_rgb(session, rgb, width, height, row_bytes, &out, 1);
}

}  // namespace vitrun
