// The texts of the C ABI.
#include "runtime/api/handles.h"
#include "runtime/text/class_vectors.h"
#include "runtime/text/integer_text_encoder.h"

using namespace vitrun::api;

struct vit_text_encoder {
  std::shared_ptr<const Opened> opened;
  vitrun::IntegerTextEncoder encoder;
};

namespace {

// Runs body(), which gives an embedding [1, D], and copies that to where the caller wants it.
template <class Body>
vit_status give_embedding(vit_text_encoder* text, float* out, size_t size, const Body& body) {
  return guard([&] {
    require(text && out, "encoder or embedding is NULL");
    const auto width = static_cast<size_t>(text->encoder.width());
    require(size >= width, "an embedding takes ", width, " floats, there is room for ", size);
    text->encoder.revive();
    std::ranges::copy(body().data, out);
  });
}

std::vector<std::string> templates_of(const char* const* templates, int count) {
  require(count >= 0 && count <= 1000 && (templates || count == 0),
          "templates are NULL or not 0 to 1000");
  if (count == 0) return vitrun::default_templates();
  std::vector<std::string> out;
  for (int i = 0; i < count; i++) {
    require(templates[i] && std::strstr(templates[i], vitrun::kNamePlace), "template ", i,
            " has no {} for the name");
    out.emplace_back(templates[i]);
  }
  return out;
}

}  // namespace

int vit_model_takes_texts(const vit_model* model) {
  return model && model->opened->model.has_graph(vitrun::kTextGraph);
}

vit_status vit_text_encoder_create(const vit_model* model, const vit_session_options* given,
                                   vit_text_encoder** out) {
  return create(out, [&] {
    require(model != nullptr, "model is NULL");
    const vit_session_options options = read_options(given);
    require(options.max_batch == 0 || options.max_batch == 1,
            "texts come one a run: max_batch must be 0 or 1, got ", options.max_batch);
    const vitrun::Kernels& kernels = kernels_called(options.isa);
    return new vit_text_encoder{
        .opened = model->opened,
        .encoder = {model->opened->model, kernels, thread_count(options.threads)}};
  });
}

void vit_text_encoder_free(vit_text_encoder* encoder) {
  delete encoder;
}

int vit_text_encoder_cols(const vit_text_encoder* encoder) {
  return encoder ? encoder->encoder.width() : 0;
}

float vit_text_encoder_logit_scale(const vit_text_encoder* encoder) {
  return encoder ? encoder->encoder.logit_scale() : 0;
}

vit_status vit_text_encoder_run(vit_text_encoder* encoder, const char* text, float* embedding,
                                size_t size) {
  return give_embedding(encoder, embedding, size, [&] {
    require(text != nullptr, "text is NULL");
    return encoder->encoder.embed({text});
  });
}

vit_status vit_text_encoder_run_class(vit_text_encoder* encoder, const char* name,
                                      const char* const* templates, int count, float* vector,
                                      size_t size) {
  return give_embedding(encoder, vector, size, [&] {
    require(name && *name, "the name of the class is NULL or empty");
    return vitrun::class_vector(name, templates_of(templates, count),
                                [&](const auto& texts) { return encoder->encoder.embed(texts); });
  });
}

size_t vit_text_encoder_memory(const vit_text_encoder* encoder) {
  return encoder ? static_cast<size_t>(encoder->encoder.buffer_bytes()) : 0;
}

const char* vit_text_encoder_isa(const vit_text_encoder* encoder) {
  return encoder ? encoder->encoder.kernels().name : nullptr;
}

vit_status vit_cosines(const float* embedding, const float* vectors, int count, int cols,
                       float scale, float* out) {
  return guard([&] {
    require(embedding && vectors && out, "embedding, vectors or out is NULL");
    require(count >= 1 && cols >= 1, "count and cols must be 1 or more, got ", count, " and ",
            cols);
    const size_t rows = static_cast<size_t>(count), width = static_cast<size_t>(cols);
    vitrun::compare_with_classes({embedding, width}, {vectors, rows * width}, double{scale},
                                 {out, rows});
  });
}
