// The C ABI against the engine it wraps, and its refusals. What an installed library does is
// check_capi's business.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "models/cifar10/embedded.h"
#include "runtime/api/vitrun.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/api/logits.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

const std::string kModel = VITRUN_TEST_DIR "/../models/cifar10/vit.qbin";

struct Handles {
  vit_model* model = nullptr;
  vit_session* session = nullptr;
  explicit Handles(const vit_session_options* options = nullptr) {
    REQUIRE(vit_model_open(kModel.c_str(), nullptr, &model) == VIT_OK);
    REQUIRE(vit_session_create(model, options, &session) == VIT_OK);
  }
  ~Handles() {
    vit_model_close(model);  // before its session: a session keeps its model alive
    vit_session_free(session);
  }
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
};

bool last_error_says(const char* text) {
  return std::strstr(vit_last_error(), text) != nullptr;
}

TEST_CASE("the C ABI gives the engine's bits, in any batch") {
  const vit_session_options options = {sizeof options, 2, 3, "scalar"};
  Handles h(&options);
  CHECK(std::string(vit_session_isa(h.session)) == "scalar");
  CHECK(std::string(vit_isa_names()).ends_with("scalar"));
  CHECK(vit_session_memory(h.session) > 3 * 3 * 32 * 32 * sizeof(float));  // three images at least
  const QuantModel model(QbinFile::open(kModel));
  const ModelConfig& c = model.info();
  CHECK(vit_model_classes(h.model) == c.num_classes);
  CHECK(vit_model_width(h.model) == c.image_width);
  CHECK(vit_model_name(h.model) == c.arch);
  CHECK(vit_model_label(h.model, 8) == c.labels[8]);
  CHECK(vit_model_label(h.model, 10) == nullptr);
  CHECK(vit_model_label(h.model, -1) == nullptr);
  CHECK(std::string(vit_model_metadata(h.model, "recipe.weight_bits")) == "4");
  CHECK(vit_model_metadata(h.model, "none") == nullptr);

  const size_t size = size_t{3} * 32 * 32, classes = 10;
  std::vector<float> images(3 * size), got(3 * classes), want(3 * classes);
  for (size_t i = 0; i < images.size(); i++) images[i] = static_cast<float>(i * 37 % 201) / 100 - 1;
  Engine engine(model.graph(), {});
  for (size_t i = 0; i < 3; i++) engine.run(images.data() + i * size, 1, want.data() + i * classes);
  REQUIRE(vitrun::run_float(h.session, images.data(), 3, got) == VIT_OK);
  CHECK(std::memcmp(got.data(), want.data(), got.size() * sizeof(float)) == 0);
}

TEST_CASE("the C ABI opens a model in memory and checks its weights when asked") {
  vit_model* model = nullptr;
  const vit_model_options verify = {sizeof verify, 1};
  const auto bytes = embedded_model();
  REQUIRE(vit_model_open_memory(bytes.data(), bytes.size(), &verify, &model) == VIT_OK);
  CHECK(vit_model_file_bytes(model) == bytes.size());
  vit_model_close(model);

  CHECK(vit_model_open_memory(bytes.data() + 1, 100, nullptr, &model) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("aligned"));
  CHECK(model == nullptr);
  CHECK(vit_model_open_memory(bytes.data(), 1000, nullptr, &model) == VIT_ERROR_MODEL);

  struct alignas(64) Line {
    uint8_t bytes[64];
  };
  std::vector<Line> damaged(bytes.size() / 64 + 1);
  std::memcpy(damaged.data(), bytes.data(), bytes.size());
  damaged[bytes.size() / 128].bytes[5] ^= 1;  // in the weights
  REQUIRE(vit_model_open_memory(damaged.data(), bytes.size(), nullptr, &model) == VIT_OK);
  vit_model_close(model);
  CHECK(vit_model_open_memory(damaged.data(), bytes.size(), &verify, &model) == VIT_ERROR_MODEL);
  CHECK(last_error_says("checksum"));
}

TEST_CASE("the C ABI refuses with a status and words") {
  vit_model* model = reinterpret_cast<vit_model*>(1);
  CHECK(vit_model_open("/none.qbin", nullptr, &model) == VIT_ERROR_FILE);
  CHECK(model == nullptr);
  CHECK(last_error_says("/none.qbin"));
  CHECK(vit_model_open(nullptr, nullptr, &model) == VIT_ERROR_ARGUMENT);
  CHECK(vit_model_open(kModel.c_str(), nullptr, nullptr) == VIT_ERROR_ARGUMENT);
  CHECK(vit_model_open(__FILE__, nullptr, &model) == VIT_ERROR_MODEL);
  const vit_model_options unset = {};
  CHECK(vit_model_open(kModel.c_str(), &unset, &model) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("struct_size"));

  Handles h;
  vit_session* session = nullptr;
  const auto refused = [&](int threads, int batch, const char* isa, const char* says) {
    const vit_session_options options = {sizeof options, threads, batch, isa};
    CHECK(vit_session_create(h.model, &options, &session) == VIT_ERROR_ARGUMENT);
    CHECK(session == nullptr);
    CHECK(last_error_says(says));
  };
  refused(-1, 0, nullptr, "threads");
  refused(257, 0, nullptr, "threads");
  refused(0, 5000, nullptr, "max_batch");
  refused(0, 0, "mmx", "scalar");
  CHECK(vit_session_create(nullptr, nullptr, &session) == VIT_ERROR_ARGUMENT);

  float logits[10], image[3 * 32 * 32] = {};
  uint8_t rgb[48] = {};
  CHECK(vitrun::run_float(h.session, image, 2, logits) == VIT_ERROR_ARGUMENT);
  CHECK(vitrun::run_float(h.session, nullptr, 1, logits) == VIT_ERROR_ARGUMENT);
  CHECK(vitrun::run_rgb(h.session, rgb, 0, 4, 12, logits) == VIT_ERROR_ARGUMENT);
  CHECK(vitrun::run_rgb(h.session, rgb, 4, 4, 11, logits) == VIT_ERROR_ARGUMENT);
  CHECK(vitrun::run_rgb(h.session, rgb, 4, 4, 12, logits) == VIT_OK);
  vit_model_close(nullptr);
  vit_session_free(nullptr);
}

TEST_CASE("top k: order, ties, NaN and probabilities") {
  const float logits[] = {1, 3, NAN, 3, -2};
  vit_prediction best[5];
  REQUIRE(vit_top_k(logits, 5, 5, best) == VIT_OK);
  const int order[] = {1, 3, 0, 4, 2};
  for (int i = 0; i < 5; i++) CHECK(best[i].class_index == order[i]);
  const double sum = 2 + std::exp(-2.0) + std::exp(-5.0);
  CHECK(best[0].probability == doctest::Approx(1 / sum));
  CHECK(best[3].probability == doctest::Approx(std::exp(-5.0) / sum));
  CHECK(best[4].probability == 0);
  CHECK(vit_top_k(logits, 5, 6, best) == VIT_ERROR_ARGUMENT);
  CHECK(vit_top_k(logits, 5, 0, best) == VIT_ERROR_ARGUMENT);
}

TEST_CASE("version and names") {
  CHECK(vit_version() == VIT_VERSION_MAJOR * 10000 + VIT_VERSION_MINOR * 100 + VIT_VERSION_PATCH);
  const Outcome version = execute({"vitrun", "--version"});
  CHECK(version.out.find(std::to_string(VIT_VERSION_MAJOR) + "." +
                         std::to_string(VIT_VERSION_MINOR) + "." +
                         std::to_string(VIT_VERSION_PATCH)) != std::string::npos);
  CHECK(std::string(vit_status_name(VIT_ERROR_MEMORY)) == "VIT_ERROR_MEMORY");
  CHECK(std::string(vit_status_name(static_cast<vit_status>(7))) == "VIT_UNKNOWN");
}

}  // namespace
}  // namespace vitrun
