// For boards: vitrun and vitbench without OpenBLAS.
#include "models/status.h"
#include "runtime/predictor.h"

namespace vitrun {

bool has_float_engine() {
  return false;
}

std::unique_ptr<Predictor> float_predictor(FloatModel, int) {
  fail("this build runs .qbin files alone; vitquant makes one of a .safetensors");
}

}  // namespace vitrun
