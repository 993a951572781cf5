// Takes the place of float_predictor.cc in builds for boards, which have no OpenBLAS and cannot
// read float models.
#include "models/base/error.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/predictor.h"

namespace vitrun {
namespace {

[[noreturn]] void refuse() {
  fail("this build runs .qbin files alone; vitquant makes one of a .safetensors");
}

}  // namespace

bool has_float_engine() {
  return false;
}

FloatModel load_float_model(const std::string&, const WeightOptions&) {
  refuse();
}

bool float_weights_detect(const std::string&) {
  refuse();
}

std::unique_ptr<ObjectDetector> float_detector(const std::string&, const WeightOptions&, int) {
  refuse();
}

std::unique_ptr<Predictor> float_predictor(FloatModel, int) {
  refuse();
}

}  // namespace vitrun
