#include "runtime/api/handles.h"

#include "runtime/cpus.h"
#include "runtime/vision/preprocess.h"

namespace vitrun::api {
namespace {

// Kept in an array: remembering a failure must not fail itself.
thread_local char last_error[512];

}  // namespace

vit_status remember(vit_status status, const char* text) {
  const size_t length = std::min(std::char_traits<char>::length(text), sizeof last_error - 1);
  std::copy_n(text, length, last_error);
  last_error[length] = 0;
  return status;
}

bool is_detector(const vit_model* model) {
  return model->opened->model.detector().has_value();
}

const Kernels& kernels_called(const char* isa) {
  const Kernels* kernels = find_kernels(isa);
  require(kernels != nullptr, "no instruction set ", isa ? isa : "as VITRUN_ISA says",
          " here, only ", isa_names());
  return *kernels;
}

int thread_count(int asked) {
  if (asked == 0) return std::min(available_cpus(), 256);
  require(asked >= 1 && asked <= 256, "threads must be 1 to 256, or 0, got ", asked);
  return asked;
}

bool is_image_size(int width, int height) {
  return width >= 1 && height >= 1 && width <= kMaxImageSide && height <= kMaxImageSide;
}

void check_image(int width, int height, ptrdiff_t row_bytes) {
  require(is_image_size(width, height), "an image is 1 to ", kMaxImageSide,
          " pixels wide and high, got ", width, " x ", height);
  require(row_bytes >= ptrdiff_t{3} * width, "row_bytes must be at least 3 * width, got ",
          row_bytes);
}

}  // namespace vitrun::api

const char* vit_last_error(void) {
  return vitrun::api::last_error;
}
