// The C ABI against the engine it wraps, and its refusals. What an installed library does is
// check_capi's business.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "models/cifar10/embedded.h"
#include "runtime/api/vitrun.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/api/last_error.h"
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

TEST_CASE("the C ABI gives the engine's bits, in any batch") {
  const vit_session_options options = {sizeof options, 2, 3, "scalar"};
  Handles h(&options);
  CHECK(std::string(vit_session_isa(h.session)) == "scalar");
  CHECK(std::string(vit_isa_names()).ends_with("scalar"));
  CHECK(vit_session_memory(h.session) > 3 * 3 * 32 * 32 * sizeof(float));  // three images at least
  const QuantModel model(QbinFile::open(kModel));
  const ModelInfo& c = model.info();
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

// Room for the outputs of a batch, and where it lies.
struct Room {
  std::vector<std::vector<float>> values;
  std::vector<vit_output> outputs;
  void add(const vit_model* model, int output, int batch) {
    const int rows = vit_model_output_rows(model, output),
              cols = vit_model_output_cols(model, output);
    values.emplace_back(static_cast<size_t>(batch * rows * cols));
    outputs.push_back(
        {vit_model_output_name(model, output), values.back().data(), values.back().size()});
  }
  int count() const { return count_of(outputs); }
};

TEST_CASE("the C ABI names a model's outputs and gives the engine's, alone or together") {
  const vit_session_options options = {sizeof options, 2, 2, nullptr};
  Handles h(&options);
  const QuantModel model(QbinFile::open(kModel));
  const QuantGraph& g = model.graph();
  REQUIRE(vit_model_outputs(h.model) == 3);
  for (int i = 0; i < 3; i++) {
    const Output& o = g.graph.outputs[static_cast<size_t>(i)];
    CHECK(vit_model_output_name(h.model, i) == o.name);
    CHECK(vit_model_output_rows(h.model, i) == (*g.shapes)[o.node].rows);
    CHECK(vit_model_output_cols(h.model, i) == (*g.shapes)[o.node].cols);
  }
  CHECK(std::string(vit_model_output_name(h.model, 0)) == "logits");
  CHECK(vit_model_output_rows(h.model, 0) == 1);
  CHECK(vit_model_output_cols(h.model, 0) == 10);
  CHECK(std::string(vit_model_output_name(h.model, 1)) == "embedding");
  CHECK(vit_model_output_rows(h.model, 1) == 1);
  CHECK(std::string(vit_model_output_name(h.model, 2)) == "features");
  CHECK(vit_model_output_rows(h.model, 2) > 1);
  CHECK(vit_model_output_cols(h.model, 2) == vit_model_output_cols(h.model, 1));
  for (int none : {-1, 3}) {
    CHECK(vit_model_output_name(h.model, none) == nullptr);
    CHECK(vit_model_output_rows(h.model, none) == 0);
    CHECK(vit_model_output_cols(h.model, none) == 0);
  }

  std::vector<float> images(size_t{2} * 3 * 32 * 32);
  for (size_t i = 0; i < images.size(); i++) images[i] = static_cast<float>(i * 53 % 301) / 150 - 1;
  Room want, got;
  for (int i : {2, 0, 1}) want.add(h.model, i, 2), got.add(h.model, i, 2);
  Engine engine(g, {.max_batch = 2, .outputs = {"features", "logits", "embedding"}});
  float* pointers[] = {want.outputs[0].data, want.outputs[1].data, want.outputs[2].data};
  engine.run(images.data(), 2, pointers);
  REQUIRE(vit_session_run_float(h.session, images.data(), 2, got.outputs.data(), 3) == VIT_OK);
  CHECK(got.values == want.values);
  for (size_t i = 0; i < 3; i++) {  // each alone
    got.values[i].assign(got.values[i].size(), 0);
    REQUIRE(vit_session_run_float(h.session, images.data(), 2, &got.outputs[i], 1) == VIT_OK);
    CHECK(got.values[i] == want.values[i]);
  }

  // run_rgb gives the same as run_float of the preprocessed image: features of one hold the
  // others'.
  const std::vector<uint8_t> rgb(size_t{3} * 32 * 32, 90);
  REQUIRE(vit_session_run_rgb(h.session, rgb.data(), 32, 32, 96, got.outputs.data(), 3) == VIT_OK);
  const std::vector<float> logits(got.values[1].begin(), got.values[1].begin() + 10);
  std::vector<float> alone(10);
  REQUIRE(vitrun::run_rgb(h.session, rgb.data(), 32, 32, 96, alone) == VIT_OK);
  CHECK(alone == logits);
}

TEST_CASE("the C ABI answers NULL for NULL") {
  CHECK(vit_model_name(nullptr) == nullptr);
  CHECK(vit_model_width(nullptr) == 0);
  CHECK(vit_model_height(nullptr) == 0);
  CHECK(vit_model_classes(nullptr) == 0);
  CHECK(vit_model_outputs(nullptr) == 0);
  CHECK(vit_model_output_name(nullptr, 0) == nullptr);
  CHECK(vit_model_output_rows(nullptr, 0) == 0);
  CHECK(vit_model_output_cols(nullptr, 0) == 0);
  CHECK(vit_model_label(nullptr, 0) == nullptr);
  CHECK(vit_model_metadata(nullptr, "recipe.method") == nullptr);
  CHECK(vit_model_file_bytes(nullptr) == 0);
  CHECK(vit_session_memory(nullptr) == 0);
  CHECK(vit_session_isa(nullptr) == nullptr);
  CHECK(vit_session_memory_for(nullptr, 0, 0, nullptr, 0) == 0);
  CHECK(vit_session_prepare(nullptr, 0, 0, nullptr, 0) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_run_rgb(nullptr, nullptr, 1, 1, 3, nullptr, 0) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_run_float(nullptr, nullptr, 1, nullptr, 0) == VIT_ERROR_ARGUMENT);
  CHECK(vit_top_k(nullptr, 1, 1, nullptr) == VIT_ERROR_ARGUMENT);
  CHECK(vit_model_open(nullptr, nullptr, nullptr) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_create(nullptr, nullptr, nullptr) == VIT_ERROR_ARGUMENT);
  vit_session_free(nullptr);
  vit_model_close(nullptr);
}

TEST_CASE("the C ABI refuses images that are not finite") {
  Handles h(nullptr);
  std::vector<float> images(size_t{3} * 32 * 32, 0.5f), logits(10);
  const vit_output out = {"logits", logits.data(), logits.size()};
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    images.back() = bad;
    CHECK(vit_session_run_float(h.session, images.data(), 1, &out, 1) == VIT_ERROR_ARGUMENT);
    CHECK(std::string(vit_last_error()) == "images[3071] is not finite");
  }
  images.back() = 0;
  CHECK(vit_session_run_float(h.session, images.data(), 1, &out, 1) == VIT_OK);
}

#ifndef __SANITIZE_THREAD__  // which refuses threads in a child
TEST_CASE("the C ABI answers in a child of fork()") {
  if (*VITRUN_EMULATOR) return;  // qemu-user 7.2 aborts where a child of fork() starts threads
  const vit_session_options options = {sizeof options, 2, 1, nullptr};
  Handles h(&options);
  const std::vector<float> images(size_t{3} * 32 * 32, 0.5f);
  std::vector<float> logits(10), again(10);
  const vit_output out = {"logits", logits.data(), 10}, second = {"logits", again.data(), 10};
  REQUIRE(vit_session_run_float(h.session, images.data(), 1, &out, 1) == VIT_OK);
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    const vit_status status = vit_session_run_float(h.session, images.data(), 1, &second, 1);
    vit_session_free(h.session);
    _exit(status == VIT_OK && again == logits ? 3 : 4);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 3));
}
#endif

TEST_CASE("the C ABI refuses outputs that there are not and buffers too small") {
  const vit_session_options options = {sizeof options, 1, 2, nullptr};
  Handles h(&options);
  const std::vector<float> images(size_t{2} * 3 * 32 * 32, 0.5f);
  std::vector<float> logits(20), other(10);
  const auto run = [&](std::vector<vit_output> outputs, int batch = 1) {
    return vit_session_run_float(h.session, images.data(), batch, outputs.data(),
                                 count_of(outputs));
  };
  CHECK(run({{"logits", logits.data(), 20}}, 2) == VIT_OK);
  CHECK(run({{"logits", logits.data(), 19}}, 2) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("output 'logits' takes 20 floats, data has 19"));
  CHECK(run({{"logits", logits.data(), 9}}) == VIT_ERROR_ARGUMENT);
  CHECK(run({{"embedding", other.data(), 10}}) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("'embedding'"));
  CHECK(run({{"logits", logits.data(), 10}, {"features", other.data(), 10}}) == VIT_ERROR_ARGUMENT);
  CHECK(run({{"boxes", logits.data(), 20}}) == VIT_ERROR_ARGUMENT);
  CHECK(last_error_says("no output 'boxes'"));
  CHECK(run({{nullptr, logits.data(), 20}}) == VIT_ERROR_ARGUMENT);
  CHECK(run({{"logits", nullptr, 20}}) == VIT_ERROR_ARGUMENT);
  CHECK(run({}) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_run_float(h.session, images.data(), 1, nullptr, 1) == VIT_ERROR_ARGUMENT);
  const vit_output out = {"logits", logits.data(), 20};
  CHECK(vit_session_run_float(h.session, images.data(), 1, &out, 0) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_run_float(h.session, images.data(), 1, &out, 65) == VIT_ERROR_ARGUMENT);
  const uint8_t rgb[48] = {};
  const vit_output small = {"logits", logits.data(), 9};
  CHECK(vit_session_run_rgb(h.session, rgb, 4, 4, 12, &small, 1) == VIT_ERROR_ARGUMENT);
  // After all that the session runs as before.
  const std::vector<float> before = logits;
  CHECK(run({{"logits", logits.data(), 20}}, 2) == VIT_OK);
  CHECK(logits == before);
}

TEST_CASE("the C ABI says before what memory a choice takes") {
  const vit_session_options options = {sizeof options, 2, 2, nullptr};
  for (const std::vector<const char*>& names :
       {std::vector<const char*>{"logits"}, {"embedding"}, {"features"}, {"features", "logits"}})
    for (int side : {0, 32}) {
      Handles h(&options);
      const size_t said =
          vit_session_memory_for(h.session, side, side, names.data(), count_of(names));
      CHECK(said >= vit_session_memory(h.session));
      REQUIRE(vit_session_prepare(h.session, side, side, names.data(), count_of(names)) == VIT_OK);
      CHECK(vit_session_memory(h.session) == said);
    }

  Handles h(&options);
  const char* const logits = "logits";
  const char* const boxes = "boxes";
  const char* const none = nullptr;
  const size_t memory = vit_session_memory(h.session);
  const auto refused = [&](int width, int height, const char* const* names, int count,
                           vit_status status) {
    CHECK(vit_session_prepare(h.session, width, height, names, count) == status);
    CHECK(*vit_last_error());
    CHECK(vit_session_memory_for(h.session, width, height, names, count) == 0);
    CHECK(vit_session_memory(h.session) == memory);
  };
  refused(64, 64, &logits, 1, VIT_ERROR_MODEL);  // the position embedding is for 32 x 32
  refused(36, 32, &logits, 1, VIT_ERROR_MODEL);
  refused(1 << 20, 1 << 20, &logits, 1, VIT_ERROR_MODEL);
  refused(0, 0, &boxes, 1, VIT_ERROR_ARGUMENT);
  refused(0, 32, &logits, 1, VIT_ERROR_ARGUMENT);
  refused(-32, -32, &logits, 1, VIT_ERROR_ARGUMENT);
  refused(0, 0, &none, 1, VIT_ERROR_ARGUMENT);
  refused(0, 0, nullptr, 1, VIT_ERROR_ARGUMENT);
  refused(0, 0, &logits, 0, VIT_ERROR_ARGUMENT);
  refused(0, 0, &logits, 65, VIT_ERROR_ARGUMENT);
  CHECK(vit_session_prepare(nullptr, 0, 0, &logits, 1) == VIT_ERROR_ARGUMENT);
  CHECK(vit_session_memory_for(nullptr, 0, 0, &logits, 1) == 0);
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
  for (float one : {0.0f, 0.7f, -3.0f, 800.0f, -800.0f}) {
    REQUIRE(vit_top_k(&one, 1, 1, best) == VIT_OK);
    CHECK(best[0].logit == one);
    CHECK(best[0].probability == doctest::Approx(1 / (1 + std::exp(-static_cast<double>(one)))));
  }
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
