// Fuzz target: the C ABI as a state machine. The bytes are a program of calls on a few models and
// sessions, legal in any order, wrong arguments among them. Statuses and messages must fit, and a
// model's answer to one image must be the same bits whatever happened before.
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "runtime/api/vitrun.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/runtime/files/qbin_testing.h"

namespace vitrun {
namespace {

// A model of the folder that tests/fuzz makes, and its answer, once known.
struct Known {
  std::string path;
  std::unique_ptr<Aligned> bytes;
  std::map<std::string, std::vector<float>> float_answers, rgb_answers;  // by output
};

std::vector<Known>& known_models() {
  static std::vector<Known> models = [] {
    std::vector<Known> all;
    for (const auto& entry : std::filesystem::directory_iterator(VITRUN_FUZZ_MODELS)) {
      std::ifstream in(entry.path(), std::ios::binary);
      const Buffer bytes{std::istreambuf_iterator<char>(in), {}};
      all.push_back({entry.path().string(), std::make_unique<Aligned>(bytes), {}, {}});
    }
    FUZZ_CHECK(!all.empty() && all.size() < 256);
    return all;
  }();
  return models;
}

struct OpenModel {
  Known* known = nullptr;
  vit_model* handle = nullptr;
};
struct OpenSession {
  Known* known = nullptr;
  vit_session* handle = nullptr;
  // These are of its model, which may be closed.
  int batch = 0, width = 0, height = 0;
  std::map<std::string, size_t> outputs;  // floats of each
};

class Machine {
 public:
  explicit Machine(Choices choices) : choices_(choices) {}
  ~Machine() {
    for (OpenSession& s : sessions_) vit_session_free(s.handle);
    for (OpenModel& m : models_) vit_model_close(m.handle);
  }

  void run() {
    for (int step = 0; step < 24 && choices_.left(); step++) {
      switch (choices_.below(11)) {
        case 0:
          open();
          break;
        case 1:
          create();
          break;
        case 2:
          close();
          break;
        case 3:
          free();
          break;
        case 4:
          ask();
          break;
        case 5:
          top();
          break;
        case 6:
          refuse();
          break;
        case 7:
          run_rgb();
          break;
        case 8:
          prepare();
          break;
        default:
          run_float();
      }
    }
  }

 private:
  static void check_failure(vit_status status, const void* out) {
    FUZZ_CHECK(status > VIT_OK && status <= VIT_ERROR_SYSTEM && !out && *vit_last_error());
  }

  void open() {
    OpenModel& slot = models_[choices_.below(3)];
    if (slot.handle) return;
    Known& known = known_models()[choices_.number<uint8_t>() % known_models().size()];
    const vit_model_options options = {sizeof options, choices_.below(2)};
    const vit_model_options* given = choices_.below(2) ? &options : nullptr;
    const auto bytes = known.bytes->bytes();
    const vit_status status =
        choices_.below(4) ? vit_model_open_memory(bytes.data(), bytes.size(), given, &slot.handle)
                          : vit_model_open(known.path.c_str(), given, &slot.handle);
    FUZZ_CHECK(status == VIT_OK && slot.handle);
    slot.known = &known;
  }

  void close() {
    OpenModel& slot = models_[choices_.below(3)];
    vit_model_close(slot.handle);
    slot = {};
  }

  void create() {
    OpenModel& model = models_[choices_.below(3)];
    OpenSession& slot = sessions_[choices_.below(3)];
    if (slot.handle || !model.handle) return;
    const char* isas[] = {nullptr, "scalar", "avx2", "avx512", "avx512vnni", "amx", "neon", "?"};
    const vit_session_options options = {sizeof options, choices_.between(-1, 3),
                                         choices_.between(-1, 3), isas[choices_.below(8)]};
    const vit_status status = vit_session_create(model.handle, &options, &slot.handle);
    if (status) return check_failure(status, slot.handle);
    slot = {model.known,
            slot.handle,
            std::max(options.max_batch, 1),
            vit_model_width(model.handle),
            vit_model_height(model.handle),
            {}};
    for (int o = 0; o < vit_model_outputs(model.handle); o++)
      slot.outputs[vit_model_output_name(model.handle, o)] =
          static_cast<size_t>(vit_model_output_rows(model.handle, o)) *
          static_cast<size_t>(vit_model_output_cols(model.handle, o));
    FUZZ_CHECK(vit_session_memory(slot.handle) > 0 && *vit_session_isa(slot.handle));
  }

  void free() {
    OpenSession& slot = sessions_[choices_.below(3)];
    vit_session_free(slot.handle);
    slot = {};
  }

  void run_float() {
    OpenSession& s = sessions_[choices_.below(3)];
    if (!s.handle) return;
    const int batch = choices_.between(0, s.batch + 1);
    const auto count = static_cast<size_t>(3 * s.width * s.height);
    const auto& [name, size] = output_of(s);
    const auto images = static_cast<size_t>(std::max(batch, 1));
    std::vector<float> in(images * count), out(images * size);
    for (size_t i = 0; i < in.size(); i++)
      in[i] = 0.01f * static_cast<float>(i % count % 301) - 1.5f;
    const vit_output to = {name.c_str(), out.data(), out.size()};
    const vit_status status = vit_session_run_float(s.handle, in.data(), batch, &to, 1);
    FUZZ_CHECK((status == VIT_OK) == (batch >= 1 && batch <= s.batch));
    if (status) return check_failure(status, nullptr);
    for (size_t i = 0; i < images; i++)
      check_answer(s.known->float_answers[name], {out.data() + i * size, size});
  }

  void run_rgb() {
    OpenSession& s = sessions_[choices_.below(3)];
    if (!s.handle) return;
    const bool fixed = choices_.below(2);
    const int width = fixed ? 13 : choices_.between(0, 40),
              height = fixed ? 9 : choices_.between(0, 40);
    const ptrdiff_t stride = 3 * width + (fixed ? 0 : choices_.between(-1, 5));
    std::vector<uint8_t> rgb(
        static_cast<size_t>(std::max<ptrdiff_t>(stride, 1) * std::max(height, 1)));
    for (size_t i = 0; i < rgb.size(); i++) rgb[i] = static_cast<uint8_t>(i * 37 + i / 41);
    const auto& [name, size] = output_of(s);
    std::vector<float> out(size);
    const vit_output to = {name.c_str(), out.data(), size};
    const vit_status status =
        vit_session_run_rgb(s.handle, rgb.data(), width, height, stride, &to, 1);
    FUZZ_CHECK(status == VIT_OK || *vit_last_error());
    FUZZ_CHECK((status == VIT_ERROR_ARGUMENT) == (width < 1 || height < 1 || stride < 3 * width));
    if (!status && fixed) check_answer(s.known->rgb_answers[name], out);
  }

  const std::pair<const std::string, size_t>& output_of(const OpenSession& s) {
    return *std::next(s.outputs.begin(), choices_.below(static_cast<int>(s.outputs.size())));
  }

  // Other sizes and outputs, which may be refused; then images of the model's own size again, so
  // that runs to come know theirs. What memory_for said is what prepare needs.
  void prepare() {
    OpenSession& s = sessions_[choices_.below(3)];
    if (!s.handle) return;
    const int sizes[][2] = {{0, 0},
                            {s.width, s.height},
                            {s.width + 4, s.height},
                            {0, s.height},
                            {choices_.between(-1, 70), choices_.between(-1, 70)}};
    const auto& [width, height] = sizes[choices_.below(5)];
    const char* const names[] = {output_of(s).first.c_str(),
                                 choices_.below(8) ? output_of(s).first.c_str() : "?"};
    const int count = choices_.between(0, 2);
    const size_t said = vit_session_memory_for(s.handle, width, height, names, count);
    const vit_status status = vit_session_prepare(s.handle, width, height, names, count);
    FUZZ_CHECK((status == VIT_OK) == (said > 0));
    if (status) return check_failure(status, nullptr);
    FUZZ_CHECK(vit_session_memory(s.handle) == said);
    FUZZ_CHECK(vit_session_prepare(s.handle, 0, 0, names, count) == VIT_OK);
  }

  static void check_answer(std::vector<float>& known, std::span<const float> found) {
    if (known.empty()) known.assign(found.begin(), found.end());
    FUZZ_CHECK(std::memcmp(known.data(), found.data(), found.size_bytes()) == 0);
  }

  void ask() {
    OpenModel& m = models_[choices_.below(3)];
    if (!m.handle) return;
    const int output = choices_.number<int8_t>();
    const bool there = output >= 0 && output < vit_model_outputs(m.handle);
    FUZZ_CHECK((vit_model_output_name(m.handle, output) != nullptr) == there);
    FUZZ_CHECK((vit_model_output_rows(m.handle, output) > 0) == there);
    FUZZ_CHECK((vit_model_output_cols(m.handle, output) > 0) == there);
    FUZZ_CHECK(vit_model_classes(m.handle) > 0 && *vit_model_name(m.handle));
    FUZZ_CHECK(vit_model_file_bytes(m.handle) == m.known->bytes->bytes().size());
    const int index = choices_.number<int32_t>();
    const char* label = vit_model_label(m.handle, index);
    FUZZ_CHECK(!label || (index >= 0 && index < vit_model_classes(m.handle)));
    const char* keys[] = {"recipe.method", "model.arch", "preprocess.mean", "none", "", nullptr};
    const char* value = vit_model_metadata(m.handle, keys[choices_.below(6)]);
    FUZZ_CHECK(!value || std::strlen(value) < 1 << 20);
  }

  // Any bits as floats: the classes come in order, and each once.
  void top() {
    std::vector<float> logits(static_cast<size_t>(choices_.between(1, 12)));
    for (float& v : logits) v = choices_.number<float>();
    const int classes = static_cast<int>(logits.size()), k = choices_.between(0, classes + 1);
    std::vector<vit_prediction> best(static_cast<size_t>(classes) + 1);
    const vit_status status = vit_top_k(logits.data(), classes, k, best.data());
    FUZZ_CHECK((status == VIT_OK) == (k >= 1 && k <= classes));
    unsigned seen = 0;
    for (int i = 0; !status && i < k; i++) {
      const vit_prediction& p = best[static_cast<size_t>(i)];
      FUZZ_CHECK(p.class_index >= 0 && p.class_index < classes && !(seen >> p.class_index & 1));
      FUZZ_CHECK(i == 0 || p.logit <= best[static_cast<size_t>(i) - 1].logit);
      seen |= 1u << p.class_index;
    }
  }

  // Calls that must fail and leave everything as it was.
  void refuse() {
    vit_model* model = nullptr;
    vit_session* session = nullptr;
    Known& known = known_models()[0];
    const vit_model_options small = {choices_.number<uint8_t>() % sizeof(size_t), 0};
    switch (choices_.below(6)) {
      case 0:
        check_failure(vit_model_open("/none", nullptr, &model), model);
        break;
      case 1:
        check_failure(vit_model_open(nullptr, nullptr, &model), model);
        break;
      case 2:
        check_failure(vit_model_open("/dev/zero", nullptr, &model), model);
        break;
      case 3:
        check_failure(vit_model_open(known.path.c_str(), &small, &model), model);
        break;
      case 4:
        check_failure(vit_session_create(nullptr, nullptr, &session), session);
        break;
      default:
        const size_t cut = choices_.number<uint16_t>() % known.bytes->bytes().size();
        check_failure(vit_model_open_memory(known.bytes->bytes().data(), cut, nullptr, &model),
                      model);
    }
  }

  Choices choices_;
  OpenModel models_[3];
  OpenSession sessions_[3];
};

}  // namespace

void fuzz_target(std::span<const uint8_t> bytes) {
  Machine(Choices(bytes)).run();
}

}  // namespace vitrun
