// The C ABI: arguments checked, exceptions turned into status codes, nothing else.
#include "runtime/api/vitrun.h"

#include <cmath>

#include "runtime/api/handles.h"
#include "runtime/integer/engine.h"
#include "runtime/vision/preprocess.h"

using namespace vitrun::api;
using vitrun::cat;

struct vit_session {
  std::shared_ptr<const Opened> opened;
  vitrun::Engine engine;
  vitrun::ModelInfo info;  // with the size of images chosen
  vitrun::PreprocessScratch scratch;
  std::vector<float> image;  // preprocessed
};

namespace {

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

vit_status open_model(const vit_model_options* given, vit_model** out, auto open_file) {
  return create(out, [&] {
    const vit_model_options options = read_options(given);
    vitrun::QbinFile file = open_file();
    if (options.verify) file.verify();
    auto opened = std::make_shared<Opened>(Opened{vitrun::QuantModel(std::move(file)), {}});
    for (const auto& [key, value] : opened->model.file().metadata())
      opened->metadata[key] = std::visit(Text(), value);
    return new vit_model{std::move(opened)};
  });
}

size_t pixels_of(const vitrun::ModelInfo& info) {
  return size_t{3} * static_cast<size_t>(info.image_height) * static_cast<size_t>(info.image_width);
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
  return model ? model->opened->model.info().arch.c_str() : nullptr;
}

int vit_model_width(const vit_model* model) {
  return model && !is_detector(model) ? model->opened->model.info().image_width : 0;
}

int vit_model_height(const vit_model* model) {
  return model && !is_detector(model) ? model->opened->model.info().image_height : 0;
}

int vit_model_classes(const vit_model* model) {
  return model ? model->opened->model.info().num_classes : 0;
}

const char* vit_model_label(const vit_model* model, int class_index) {
  if (!model) return nullptr;
  const auto& labels = model->opened->model.info().labels;
  const auto i = static_cast<size_t>(class_index);  // a negative one becomes too large
  return i < labels.size() ? labels[i].c_str() : nullptr;
}

const char* vit_model_metadata(const vit_model* model, const char* key) {
  if (!model || !key) return nullptr;
  const auto found = model->opened->metadata.find(key);
  return found == model->opened->metadata.end() ? nullptr : found->second.c_str();
}

size_t vit_model_file_bytes(const vit_model* model) {
  return model ? model->opened->model.file().size() : 0;
}

int vit_model_outputs(const vit_model* model) {
  return model && !is_detector(model) ? vitrun::count_of(model->opened->model.graph().graph.outputs)
                                      : 0;
}

namespace {

const vitrun::Output* output_at(const vit_model* model, int output) {
  if (!model || is_detector(model)) return nullptr;
  const auto& outputs = model->opened->model.graph().graph.outputs;
  const auto i = static_cast<size_t>(output);  // a negative one becomes too large
  return i < outputs.size() ? &outputs[i] : nullptr;
}

const vitrun::Shape* shape_of(const vit_model* model, int output) {
  const vitrun::Output* found = output_at(model, output);
  return found ? &(*model->opened->model.graph().shapes)[found->node] : nullptr;
}

// Appends the name of an output that a caller asks for.
void add_name(const vit_session* session, const char* name, std::vector<std::string>& names) {
  require(name != nullptr, "the name of an output is NULL");
  names.emplace_back(name);
  require(session->opened->model.graph().graph.output(names.back()) >= 0,
          "the model has no output '", name, "'");
}

std::vector<std::string> names_of(const vit_session* session, const char* const* names, int count) {
  require(names && count >= 1 && count <= 64, "outputs are NULL or not 1 to 64");
  std::vector<std::string> out;
  for (int i = 0; i < count; i++) add_name(session, names[i], out);
  return out;
}

std::vector<vitrun::MapSize> sizes_of(const vit_session* session, int width, int height) {
  require((width == 0) == (height == 0) && width >= 0 && height >= 0,
          "a size is width and height, or 0 and 0, got ", width, " x ", height);
  const vitrun::ModelInfo& own = session->opened->model.info();
  if (width == 0) return {{own.image_height, own.image_width}};
  return {{height, width}};
}

// Chooses the outputs' plan if it is another than the last and checks that the buffers hold them.
void choose_outputs(vit_session* session, const vit_output* outputs, int count, int batch) {
  require(outputs && count >= 1 && count <= 64, "outputs are NULL or not 1 to 64");
  const std::vector<vitrun::PlannedOutput>& chosen = session->engine.outputs();
  bool same = count == vitrun::count_of(chosen);
  for (int i = 0; i < count; i++) {
    require(outputs[i].name && outputs[i].data, "name or data of an output is NULL");
    same = same && vitrun::at(chosen, i).name == outputs[i].name;
  }
  if (!same) {
    std::vector<std::string> names;
    for (int i = 0; i < count; i++) add_name(session, outputs[i].name, names);
    session->engine.select({{session->info.image_height, session->info.image_width}}, names);
  }
  for (int i = 0; i < count; i++) {
    const vitrun::PlannedOutput& o = vitrun::at(session->engine.outputs(), i);
    const auto needed =
        static_cast<size_t>(batch) * static_cast<size_t>(o.rows) * static_cast<size_t>(o.cols);
    require(outputs[i].size >= needed, "output '", o.name, "' takes ", needed, " floats, data has ",
            outputs[i].size);
  }
}

void run_outputs(vit_session* session, const float* images, int batch, const vit_output* outputs,
                 int count) {
  float* pointers[64];
  for (int i = 0; i < count; i++) pointers[i] = outputs[i].data;
  session->engine.revive();
  session->engine.run(images, batch, pointers);
  session->engine.check_finite(batch, pointers);
}

}  // namespace

const char* vit_model_output_name(const vit_model* model, int output) {
  const vitrun::Output* found = output_at(model, output);
  return found ? found->name.c_str() : nullptr;
}

int vit_model_output_rows(const vit_model* model, int output) {
  const vitrun::Shape* s = shape_of(model, output);
  return s ? s->rows : 0;
}

int vit_model_output_cols(const vit_model* model, int output) {
  const vitrun::Shape* s = shape_of(model, output);
  return s ? s->cols : 0;
}

vit_status vit_session_create(const vit_model* model, const vit_session_options* given,
                              vit_session** out) {
  return create(out, [&] {
    require(model != nullptr, "model is NULL");
    require(!is_detector(model), "the model is a detector: vit_detector_create() is for it");
    const vit_session_options options = read_options(given);
    const int batch = options.max_batch == 0 ? 1 : options.max_batch;
    require(batch >= 1 && batch <= 4096, "max_batch must be 1 to 4096, or 0, got ", batch);
    vitrun::EngineOptions engine = {.threads = thread_count(options.threads),
                                    .max_batch = batch,
                                    .kernels = &kernels_called(options.isa)};
    const vitrun::QuantModel& opened = model->opened->model;
    const vitrun::ModelInfo& info = opened.info();
    engine.sizes = {{info.image_height, info.image_width}};
    engine.outputs = {opened.graph().graph.outputs[0].name};
    return new vit_session{.opened = model->opened,
                           .engine = vitrun::Engine(opened.graph(), engine),
                           .info = info,
                           .scratch = {},
                           .image = std::vector<float>(pixels_of(info))};
  });
}

void vit_session_free(vit_session* session) {
  delete session;
}

vit_status vit_session_prepare(vit_session* session, int width, int height,
                               const char* const* outputs, int count) {
  return guard([&] {
    require(session != nullptr, "session is NULL");
    const std::vector<std::string> names = names_of(session, outputs, count);
    const auto sizes = sizes_of(session, width, height);
    session->engine.select(sizes, names);
    session->info.image_height = sizes[0].height;
    session->info.image_width = sizes[0].width;
    session->image.resize(pixels_of(session->info));
  });
}

size_t vit_session_memory_for(const vit_session* session, int width, int height,
                              const char* const* outputs, int count) {
  size_t bytes = 0;
  guard([&] {
    require(session != nullptr, "session is NULL");
    const auto sizes = sizes_of(session, width, height);
    const int64_t buffers = session->engine.bytes_for(sizes, names_of(session, outputs, count));
    bytes = static_cast<size_t>(buffers) + size_t{3} * sizeof(float) *
                                               static_cast<size_t>(sizes[0].height) *
                                               static_cast<size_t>(sizes[0].width);
  });
  return bytes;
}

vit_status vit_session_run_rgb(vit_session* session, const uint8_t* rgb, int width, int height,
                               ptrdiff_t row_bytes, const vit_output* outputs, int count) {
  return guard([&] {
    require(session && rgb, "session or rgb is NULL");
    check_image(width, height, row_bytes);
    choose_outputs(session, outputs, count, 1);
    vitrun::preprocess({rgb, width, height, row_bytes}, session->info, session->image,
                       session->scratch);
    run_outputs(session, session->image.data(), 1, outputs, count);
  });
}

vit_status vit_session_run_float(vit_session* session, const float* images, int batch,
                                 const vit_output* outputs, int count) {
  return guard([&] {
    require(session && images, "session or images is NULL");
    require(batch >= 1 && batch <= session->engine.max_batch(), "batch must be 1 to ",
            session->engine.max_batch(), ", got ", batch);
    const std::span<const float> values(images,
                                        static_cast<size_t>(batch) * pixels_of(session->info));
    const size_t bad = vitrun::first_not_finite(values);
    require(bad == values.size(), "images[", bad, "] is not finite");
    choose_outputs(session, outputs, count, batch);
    run_outputs(session, images, batch, outputs, count);
  });
}

size_t vit_session_memory(const vit_session* session) {
  if (!session) return 0;
  return static_cast<size_t>(session->engine.buffer_bytes()) +
         session->image.size() * sizeof(float);
}

const char* vit_session_isa(const vit_session* session) {
  return session ? session->engine.kernels().name : nullptr;
}

int vit_model_is_detector(const vit_model* model) {
  return model && is_detector(model);
}

vit_status vit_top_k(const float* logits, int classes, int k, vit_prediction* out) {
  return guard([&] {
    require(logits && out, "logits or out is NULL");
    require(classes >= 1 && k >= 1 && k <= classes, "k must be 1 to ", classes, ", got ", k);
    for (int i = 0; i < k; i++) out[i] = next_best(logits, classes, i == 0 ? nullptr : out + i - 1);
    double sum = 0;
    for (int c = 0; c < classes; c++)
      sum += std::exp(double{comparable(logits[c])} - double{out[0].logit});
    // A model of one output decides between two classes, the other's logit being 0.
    if (classes == 1) sum += std::exp(-double{out[0].logit});
    for (int i = 0; i < k; i++)
      out[i].probability =
          static_cast<float>(std::exp(double{out[i].logit} - double{out[0].logit}) / sum);
  });
}
