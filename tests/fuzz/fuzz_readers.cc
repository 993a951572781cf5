// Fuzz targets for every reader of untrusted bytes, one program a target, chosen by VITRUN_FUZZ
// (tests/fuzz builds and runs them all). All read from memory: a file a time would halve the rate.
#include <cstring>

#include "kernels/pack.h"
#include "models/checkpoints/config.h"
#include "models/text/tokenizer_files.h"
#include "runtime/api/vitrun.h"
#include "runtime/files/coded_weight.h"
#include "runtime/files/npy.h"
#include "runtime/files/qbin.h"
#include "runtime/files/safetensors.h"
#include "runtime/program/coco/coco_report.h"
#include "runtime/vision/dataset.h"
#include "runtime/vision/image.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/runtime/files/qbin_testing.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace vitrun {
namespace {

using Bytes = std::span<const uint8_t>;

std::string text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

[[maybe_unused]] void fuzz_qbin(Bytes bytes) {
  const Aligned copy(Buffer(bytes.begin(), bytes.end()));
  QbinFile::from_memory(copy.bytes(), "fuzz").verify();
}

// The whole life of a model through the C ABI; small ones are run.
[[maybe_unused]] void fuzz_model(Bytes bytes) {
  const Aligned copy(Buffer(bytes.begin(), bytes.end()));
  vit_model* model = nullptr;
  if (vit_model_open_memory(copy.bytes().data(), copy.bytes().size(), nullptr, &model)) {
    FUZZ_CHECK(!model && *vit_last_error());
    return;
  }
  const int width = vit_model_width(model), height = vit_model_height(model);
  vit_session* session = nullptr;
  const vit_session_options one = {sizeof one, 1, 1, nullptr};
  if (width <= 64 && height <= 64 && !vit_session_create(model, &one, &session)) {
    const std::vector<float> image(static_cast<size_t>(3 * width * height), 0.5f);
    const std::vector<uint8_t> rgb(3 * 7 * 5, 200);
    for (int o = 0; o < vit_model_outputs(model); o++) {
      const auto size = static_cast<size_t>(vit_model_output_rows(model, o)) *
                        static_cast<size_t>(vit_model_output_cols(model, o));
      if (size > 1 << 20) continue;
      std::vector<float> values(size);
      const vit_output out = {vit_model_output_name(model, o), values.data(), size};
      vit_session_run_float(session, image.data(), 1, &out, 1);
      vit_session_run_rgb(session, rgb.data(), 7, 5, 21, &out, 1);
    }
    vit_session_free(session);
  }
  vit_model_close(model);
}

// An entropy-coded weight of some count and bits, as it stands; then the bytes as codes, there and
// back.
[[maybe_unused]] void fuzz_coded(Bytes bytes) {
  if (bytes.size() < 3) return;
  const int bits = kMinBits + bytes[0] % (kMaxBits - kMinBits + 1);
  Buffer codes(size_t{bytes[1]} * 16 + bytes[2] % 16 + 1);
  try {
    WeightDecoder decoder(bytes.subspan(3), bits);
    decoder.read(std::span(codes).first(codes.size() / 32 * 16));
    decoder.read(std::span(codes).subspan(codes.size() / 32 * 16));
    FUZZ_CHECK(std::ranges::max(codes) >> bits == 0);
    decoder.finish();
  } catch (const Error&) {
  }
  const Buffer blob = encode_weight(bytes);
  WeightDecoder decoder(blob, kMaxBits);
  codes.resize(bytes.size());
  decoder.read(codes);
  decoder.finish();
  FUZZ_CHECK(std::ranges::equal(codes, bytes));
}

[[maybe_unused]] void fuzz_safetensors(Bytes bytes) {
  const SafetensorsFile tensors(bytes, "fuzz");
  for (const auto& [name, info] : tensors.tensors()) {
    try {
      tensors.load(name);
    } catch (const Error&) {
    }
  }
}

// The shapes of a small ViT: those with two blocks of width 16.
[[maybe_unused]] ShapeMap shapes() {
  ShapeMap s = {{"cls_token", {1, 1, 16}},
                {"pos_embed", {1, 17, 16}},
                {"patch_embed.proj.weight", {16, 3, 4, 4}},
                {"patch_embed.proj.bias", {16}},
                {"norm.weight", {16}},
                {"norm.bias", {16}},
                {"head.weight", {10, 16}},
                {"head.bias", {10}}};
  for (const char* block : {"blocks.0.", "blocks.1."})
    for (const auto& [name, n, k] : {std::tuple{"attn.qkv", 48, 16},
                                     {"attn.proj", 16, 16},
                                     {"mlp.fc1", 64, 16},
                                     {"mlp.fc2", 16, 64},
                                     {"norm1", 16, 0},
                                     {"norm2", 16, 0}}) {
      s[std::string(block) + name + ".weight"] = k ? Dims{n, k} : Dims{n};
      s[std::string(block) + name + ".bias"] = {n};
    }
  return s;
}

[[maybe_unused]] void fuzz_config(Bytes bytes) {
  static const ShapeMap known = shapes();
  ModelConfig config = config_from_json(text(bytes), known, "fuzz");
  apply_preprocessor_json(text(bytes), config, "fuzz");
}

// The tokens of bytes 0 to 255, and those that end a word behind them; the pairs ab, bc and abc.
[[maybe_unused]] Vocabulary small_vocabulary() {
  Vocabulary v;
  for (int b = 0; b < 512; b++) v.bytes.push_back(b);
  v.merges = {{'a', 'b', 512}, {'b', 'c', 513}, {512, 'c', 514}, {512, 512, 515}};
  v.added = {{"<|endoftext|>", 517, false}, {"a b", 516, true}};
  v.start = 516;
  v.end = 517;
  return v;
}

[[maybe_unused]] void fuzz_tokenizer(Bytes bytes) {
  const std::string input = text(bytes);
  const auto encode = [&](const Tokenizer& tokenizer) {
    const size_t count = tokenizer.encode(input, 77).size();
    FUZZ_CHECK(count >= 2 && count <= 77);
  };
  if (!input.starts_with('{')) return encode(Tokenizer(small_vocabulary()));
  encode(Tokenizer(vocabulary_from_json(input, "fuzz")));
}

[[maybe_unused]] void fuzz_npy(Bytes bytes) {
  const Tensor array = parse_npy(bytes, "fuzz");
  FUZZ_CHECK(array.data.size() == static_cast<size_t>(element_count(array.dims)));
}

[[maybe_unused]] void fuzz_image(Bytes bytes) {
  decode_image(bytes, "fuzz");
}

[[maybe_unused]] void fuzz_list(Bytes bytes) {
  for (const Sample& sample : parse_list(text(bytes), "/", "fuzz"))
    FUZZ_CHECK(sample.label >= -1 && !sample.path.empty());
}

// Annotations, detections or, with a line between them, both; and the masks that they hold.
[[maybe_unused]] void fuzz_coco(Bytes bytes) {
  static const char kSet[] =
      R"({"images":[{"id":1,"width":9,"height":7}],"categories":[{"id":1,"name":"a"}],"annotations":[
          {"id":1,"image_id":1,"category_id":1,"area":6,"bbox":[1,1,3,2],
           "segmentation":[[1,1,4,1,4,3,1,3]]}]})";
  const std::string input = text(bytes);
  const size_t line = input.starts_with('{') ? std::min(input.find('\n'), input.size()) : 0;
  const CocoSet set = parse_coco_set(line ? input.substr(0, line) : kSet, "fuzz");
  for (const CocoObject& o : set.objects)
    if (!o.mask.counts.empty())
      FUZZ_CHECK(rle_of_text(rle_text(o.mask), o.mask.height, o.mask.width).counts ==
                 o.mask.counts);
  const CocoDetections found =
      parse_coco_detections(line < input.size() ? input.substr(line) : "[]", "fuzz", set);
  const CocoReport report = make_coco_report(set, found);
  for (const auto& scores : {report.boxes, report.masks})
    for (double x : scores ? scores->figures : std::array<double, 12>{})
      FUZZ_CHECK(x == -1 || (x >= 0 && x <= 1));
  coco_page(report, "fuzz");
}

#if VITRUN_FUZZ_QBIN
// A number of the head becomes one that a check may have forgotten: an edge, a power of two, or its
// neighbour by one or by an alignment.
void mutate_number(uint8_t* data, size_t head_size, uint32_t random) {
  const size_t width = size_t{1} << random % 4, at = random / 4 % (head_size - width);
  uint64_t value = 0;
  std::memcpy(&value, data + at, width);
  const uint64_t step[] = {1, kQbinAlign, uint64_t{1} << random / 64 % 64};
  switch (random / 4096 % 4) {
    case 0:
      value += step[random / 16384 % 3];
      break;
    case 1:
      value -= step[random / 16384 % 3];
      break;
    case 2:
      value = step[random / 16384 % 3];
      break;
    default:
      value = ~uint64_t{0} >> random / 16384 % 2;
  }
  std::memcpy(data + at, &value, width);
}

// A .qbin's checksum and size are put right after most mutations: else nothing behind them is seen.
size_t mutate_qbin(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  QbinHeader header;
  if (size > sizeof header) std::memcpy(&header, data, sizeof header);
  if (size > sizeof header && seed % 2 && header.head_size >= sizeof header)
    mutate_number(data, std::min<uint64_t>(header.head_size, size), seed * 2654435761u);
  else
    size = LLVMFuzzerMutate(data, size, max_size);
  if (size < sizeof header || seed % 16 == 0) return size;
  std::memcpy(&header, data, sizeof header);
  if (seed % 8) header.file_size = size;
  header.head_size = std::min<uint64_t>(header.head_size, size);
  std::memcpy(data, &header, sizeof header);
  if (header.head_size < sizeof header) return size;
  header.checksum = qbin_checksum(Bytes(data, header.head_size));
  std::memcpy(data, &header, sizeof header);
  return size;
}
#endif

}  // namespace

#define VITRUN_JOIN(a, b) a##b
#define VITRUN_TARGET(name) VITRUN_JOIN(fuzz_, name)

void fuzz_target(Bytes bytes) {
  VITRUN_TARGET(VITRUN_FUZZ)(bytes);
}

}  // namespace vitrun

#if VITRUN_FUZZ_QBIN
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  return vitrun::mutate_qbin(data, size, max_size, seed);
}
#endif
