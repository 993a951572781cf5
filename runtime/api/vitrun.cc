// The C ABI: arguments checked, exceptions turned into status codes, nothing else.
#include "runtime/api/vitrun.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <new>
#include <system_error>
#include <thread>

#include "kernels/registry.h"
#include "models/base/error.h"
#include "runtime/integer/engine.h"
#include "runtime/vision/preprocess.h"

using vitrun::cat;

// What the handles share, so that a model may be closed before its sessions.
struct Opened {
  vitrun::QuantModel model;
  std::map<std::string, std::string> metadata;  // as text
};

struct vit_model {
  std::shared_ptr<const Opened> opened;
};

struct vit_session {
  std::shared_ptr<const Opened> opened;
  vitrun::Engine engine;
  vitrun::PreprocessScratch scratch;
  std::vector<float> image;  // preprocessed
};

namespace {

class ArgumentError : public vitrun::Error {
 public:
  using Error::Error;
};

// Kept in an array: remembering a failure must not fail itself.
thread_local char last_error[512];

vit_status remember(vit_status status, const char* text) {
  const size_t length = std::min(std::char_traits<char>::length(text), sizeof last_error - 1);
  std::copy_n(text, length, last_error);
  last_error[length] = 0;
  return status;
}

// Runs body() and turns what it throws into a status.
template <class Body>
vit_status guard(const Body& body) {
  try {
    body();
    return VIT_OK;
  } catch (const ArgumentError& e) {
    return remember(VIT_ERROR_ARGUMENT, e.what());
  } catch (const vitrun::FileError& e) {
    return remember(VIT_ERROR_FILE, e.what());
  } catch (const vitrun::SystemError& e) {
    return remember(VIT_ERROR_SYSTEM, e.what());
  } catch (const vitrun::Error& e) {
    return remember(VIT_ERROR_MODEL, e.what());
  } catch (const std::bad_alloc&) {
    return remember(VIT_ERROR_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return remember(VIT_ERROR_SYSTEM, e.what());
  }
}

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) throw ArgumentError(cat(parts...));
}

struct Text {
  std::string operator()(int64_t x) const { return cat(x); }
  std::string operator()(double x) const { return cat(x); }
  std::string operator()(const std::string& x) const { return x; }
  template <class T>
  std::string operator()(const std::vector<T>& values) const {
    std::string text;
    for (const T& x : values) text += (text.empty() ? "" : " ") + (*this)(x);
    return text;
  }
};

// A caller's options, or the defaults; fields that an older caller did not know stay at theirs.
template <class Options>
Options read_options(const Options* given) {
  Options options{};
  if (!given) return options;
  require(given->struct_size >= sizeof(size_t) && given->struct_size <= 4096,
          "struct_size must be the size of the options, got ", given->struct_size);
  std::memcpy(&options, given, std::min(given->struct_size, sizeof options));
  return options;
}

vit_status open_model(const vit_model_options* given, vit_model** out, auto open_file) {
  if (!out) return remember(VIT_ERROR_ARGUMENT, "out is NULL");
  *out = nullptr;
  return guard([&] {
    const vit_model_options options = read_options(given);
    vitrun::QbinFile file = open_file();
    if (options.verify) file.verify();
    auto opened = std::make_shared<Opened>(Opened{vitrun::QuantModel(std::move(file)), {}});
    for (const auto& [key, value] : opened->model.file().metadata())
      opened->metadata[key] = std::visit(Text(), value);
    *out = new vit_model{std::move(opened)};
  });
}

const vitrun::Kernels& kernels_called(const char* isa) {
  const vitrun::Kernels* kernels = vitrun::find_kernels(isa);
  require(kernels != nullptr, "no instruction set ", isa ? isa : "as VITRUN_ISA says",
          " here, only ", vitrun::isa_names());
  return *kernels;
}

int thread_count(int asked) {
  if (asked == 0) return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, 256);
  require(asked >= 1 && asked <= 256, "threads must be 1 to 256, or 0, got ", asked);
  return asked;
}

float comparable(float logit) {  // NaN counts as least
  return std::isnan(logit) ? -INFINITY : logit;
}

// The best after `last`: a smaller logit, or the same one of a later class.
vit_prediction next_best(const float* logits, int classes, const vit_prediction* last) {
  vit_prediction best = {-1, 0, 0};
  for (int c = 0; c < classes; c++) {
    const float logit = comparable(logits[c]);
    const bool after =
        !last || logit < last->logit || (logit == last->logit && c > last->class_index);
    if (after && (best.class_index < 0 || logit > best.logit)) best = {c, logit, 0};
  }
  return best;
}

}  // namespace

const char* vit_status_name(vit_status status) {
  static constexpr const char* kNames[] = {"VIT_OK",           "VIT_ERROR_ARGUMENT",
                                           "VIT_ERROR_FILE",   "VIT_ERROR_MODEL",
                                           "VIT_ERROR_MEMORY", "VIT_ERROR_SYSTEM"};
  const auto i = static_cast<size_t>(status);
  return i < std::size(kNames) ? kNames[i] : "VIT_UNKNOWN";
}

const char* vit_last_error(void) {
  return last_error;
}

int vit_version(void) {
  return VIT_VERSION_MAJOR * 10000 + VIT_VERSION_MINOR * 100 + VIT_VERSION_PATCH;
}

const char* vit_isa_names(void) {
  return vitrun::isa_names();
}

vit_status vit_model_open(const char* path, const vit_model_options* options, vit_model** out) {
  return open_model(options, out, [&] {
    require(path != nullptr, "path is NULL");
    return vitrun::QbinFile::open(path);
  });
}

vit_status vit_model_open_memory(const void* bytes, size_t size, const vit_model_options* options,
                                 vit_model** out) {
  return open_model(options, out, [&] {
    require(bytes != nullptr, "bytes is NULL");
    require(reinterpret_cast<uintptr_t>(bytes) % vitrun::kQbinAlign == 0,
            "bytes are not aligned to ", vitrun::kQbinAlign);
    return vitrun::QbinFile::from_memory({static_cast<const uint8_t*>(bytes), size},
                                         "the model in memory");
  });
}

void vit_model_close(vit_model* model) {
  delete model;
}

const char* vit_model_name(const vit_model* model) {
  return model->opened->model.config().arch.c_str();
}

int vit_model_width(const vit_model* model) {
  return model->opened->model.config().image_width;
}

int vit_model_height(const vit_model* model) {
  return model->opened->model.config().image_height;
}

int vit_model_classes(const vit_model* model) {
  return model->opened->model.config().num_classes;
}

const char* vit_model_label(const vit_model* model, int class_index) {
  const auto& labels = model->opened->model.config().labels;
  const auto i = static_cast<size_t>(class_index);  // a negative one becomes too large
  return i < labels.size() ? labels[i].c_str() : nullptr;
}

const char* vit_model_metadata(const vit_model* model, const char* key) {
  if (!key) return nullptr;
  const auto found = model->opened->metadata.find(key);
  return found == model->opened->metadata.end() ? nullptr : found->second.c_str();
}

size_t vit_model_file_bytes(const vit_model* model) {
  return model->opened->model.file().size();
}

vit_status vit_session_create(const vit_model* model, const vit_session_options* given,
                              vit_session** out) {
  if (!out) return remember(VIT_ERROR_ARGUMENT, "out is NULL");
  *out = nullptr;
  return guard([&] {
    require(model != nullptr, "model is NULL");
    const vit_session_options options = read_options(given);
    const int batch = options.max_batch == 0 ? 1 : options.max_batch;
    require(batch >= 1 && batch <= 4096, "max_batch must be 1 to 4096, or 0, got ", batch);
    const vitrun::EngineOptions engine = {.threads = thread_count(options.threads),
                                          .max_batch = batch,
                                          .kernels = &kernels_called(options.isa)};
    const vitrun::ModelConfig& config = model->opened->model.config();
    const auto image = size_t{3} * static_cast<size_t>(config.image_height) *
                       static_cast<size_t>(config.image_width);
    *out = new vit_session{.opened = model->opened,
                           .engine = vitrun::Engine(model->opened->model, engine),
                           .scratch = {},
                           .image = std::vector<float>(image)};
  });
}

void vit_session_free(vit_session* session) {
  delete session;
}

vit_status vit_session_run_rgb(vit_session* session, const uint8_t* rgb, int width, int height,
                               ptrdiff_t row_bytes, float* logits) {
  return guard([&] {
    require(session && rgb && logits, "session, rgb or logits is NULL");
    require(width >= 1 && height >= 1 && width <= vitrun::kMaxImageSide &&
                height <= vitrun::kMaxImageSide,
            "an image is 1 to ", vitrun::kMaxImageSide, " pixels wide and high, got ", width, " x ",
            height);
    require(row_bytes >= ptrdiff_t{3} * width, "row_bytes must be at least 3 * width, got ",
            row_bytes);
    vitrun::preprocess({rgb, width, height, row_bytes}, session->opened->model.config(),
                       session->image, session->scratch);
    session->engine.run(session->image.data(), 1, logits);
  });
}

vit_status vit_session_run_float(vit_session* session, const float* images, int batch,
                                 float* logits) {
  return guard([&] {
    require(session && images && logits, "session, images or logits is NULL");
    require(batch >= 1 && batch <= session->engine.max_batch(), "batch must be 1 to ",
            session->engine.max_batch(), ", got ", batch);
    session->engine.run(images, batch, logits);
  });
}

size_t vit_session_memory(const vit_session* session) {
  return static_cast<size_t>(session->engine.buffer_bytes()) +
         session->image.size() * sizeof(float);
}

const char* vit_session_isa(const vit_session* session) {
  return session->engine.kernels().name;
}

vit_status vit_top_k(const float* logits, int classes, int k, vit_prediction* out) {
  return guard([&] {
    require(logits && out, "logits or out is NULL");
    require(classes >= 1 && k >= 1 && k <= classes, "k must be 1 to ", classes, ", got ", k);
    for (int i = 0; i < k; i++) out[i] = next_best(logits, classes, i == 0 ? nullptr : out + i - 1);
    double sum = 0;
    for (int c = 0; c < classes; c++)
      sum += std::exp(double{comparable(logits[c])} - double{out[0].logit});
    for (int i = 0; i < k; i++)
      out[i].probability =
          static_cast<float>(std::exp(double{out[i].logit} - double{out[0].logit}) / sum);
  });
}
