// One changed byte anywhere in a file, and a file cut off anywhere: what finds it, or why it does
// no harm. A .qbin's head is checked when opened (test_qbin_corrupt), its data by verify(); a
// .safetensors has no checksums, its header is checked when opened and its values when loaded.
#include <doctest/doctest.h>

#include <cmath>

#include "runtime/api/vitrun.h"
#include "runtime/files/safetensors.h"
#include "tests/runtime/api/logits.h"
#include "tests/runtime/files/bad_files.h"

namespace vitrun {
namespace {

Buffer buffer_of(const std::string& bytes) {
  return {bytes.begin(), bytes.end()};
}

TEST_CASE("flips: each byte of a quantized model's weights and gaps is found by verify") {
  const Buffer good = buffer_of(good_qbin());
  const Aligned original(good);
  const QbinFile whole = QbinFile::from_memory(original.bytes(), "good");
  std::vector<std::string> owner(good.size());  // of each byte: the tensor that ends it or follows
  for (size_t at = 0, t = 0; t < whole.tensors().size(); t++) {
    const QbinTensor& tensor = whole.tensors()[t];
    const auto end =
        static_cast<size_t>(tensor.bytes.data() - original.bytes().data()) + tensor.bytes.size();
    for (; at < end; at++) owner[at] = tensor.name;
  }
  const auto head = static_cast<size_t>(whole.tensors()[0].bytes.data() - original.bytes().data());
  for (size_t at = head; at < good.size(); at++) {
    Buffer bad = good;
    bad[at] ^= 0xFF;
    const Aligned bytes(bad);
    const QbinFile file = QbinFile::from_memory(bytes.bytes(), "bad");
    const std::string error = error_of([&] { file.verify(); });
    if (!contains(error, "bad: tensor '" + owner[at] + "': ")) FAIL("byte ", at, ": ", error);
  }
}

// Unasked, the data is used as it is: some answer or a refusal, and never a read outside of it.
TEST_CASE("flips: damaged weights run to some answer") {
  Buffer bytes = buffer_of(good_qbin());
  uint64_t head;
  std::memcpy(&head, &bytes[offsetof(QbinHeader, head_size)], sizeof head);
  int run = 0, refused = 0;
  std::vector<float> logits, image;
  for (size_t at = head; at < bytes.size(); at += 37) {
    bytes[at] ^= 0xFF;
    const Aligned file(bytes);
    bytes[at] ^= 0xFF;
    vit_model* model = nullptr;
    vit_session* session = nullptr;
    const vit_status status =
        vit_model_open_memory(file.bytes().data(), file.bytes().size(), nullptr, &model);
    CHECK((status == VIT_OK || status == VIT_ERROR_MODEL));
    (status ? refused : run)++;
    if (status) continue;
    const vit_session_options one = {sizeof one, 1, 1, nullptr};
    REQUIRE(vit_session_create(model, &one, &session) == VIT_OK);
    image.assign(static_cast<size_t>(3 * vit_model_width(model) * vit_model_height(model)), 0.5f);
    logits.resize(static_cast<size_t>(vit_model_classes(model)));
    CHECK(vitrun::run_float(session, image.data(), 1, logits) == VIT_OK);
    vit_session_free(session);
    vit_model_close(model);
  }
  CHECK((run > 100 && refused > 0));  // an infinite scale, say, is refused
}

const std::string kHeader =
    R"({"__metadata__":{"format":"pt"},"w":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("h":{"dtype":"F16","shape":[4],"data_offsets":[24,32]}, "b":{"dtype":"BF16","shape":[],"data_offsets":[32,34]}})";

Buffer small_safetensors() {
  std::string data;
  for (float v : {1.f, -2.f, 3.f, 4.f, 5.f, 6.f}) data.append(reinterpret_cast<const char*>(&v), 4);
  return buffer_of(framed(kHeader, data + std::string("\0\x3c\1\x3c\2\x3c\3\x3c\x80\x3f", 10)));
}

using Values = std::map<std::string, Tensor>;

// All tensors that load; the others are absent.
Values values_of(const SafetensorsFile& file) {
  Values all;
  for (const auto& [name, info] : file.tensors())
    if (error_of([&] { file.load(name); }) == "no error") all[name] = file.load(name);
  return all;
}

// Only names and the free text of __metadata__ are protected by nothing: what still opens has each
// tensor unchanged, absent (renamed, which the map of names refuses; or of a type that does not
// load), and none with other values or another shape under its name.
TEST_CASE("flips: each change of each byte of a .safetensors header") {
  const Buffer good = small_safetensors();
  const Values expected = values_of(SafetensorsFile(good, "good"));
  REQUIRE(expected.size() == 3);
  int refused = 0, opened = 0;
  for (size_t at = 0; at < 8 + kHeader.size(); at++) {
    for (int change = 1; change < 256; change++) {
      Buffer bad = good;
      bad[at] = static_cast<uint8_t>(bad[at] ^ change);
      Values found;
      const std::string error = error_of([&] { found = values_of(SafetensorsFile(bad, "bad")); });
      (error == "no error" ? opened : refused)++;
      for (const auto& [name, tensor] : found) {
        const auto same = expected.find(name);
        if (same == expected.end()) continue;
        REQUIRE(same->second.dims == tensor.dims);
        REQUIRE(same->second.data == tensor.data);
      }
    }
  }
  MESSAGE(refused, " changes are refused, ", opened, " leave each tensor as it was or absent");
  CHECK(refused > 10 * opened);
}

TEST_CASE("flips: a .safetensors cut off anywhere, or longer, is refused") {
  const Buffer good = small_safetensors();
  for (size_t size = 0; size < good.size(); size++) {
    const Buffer cut(good.begin(), good.begin() + static_cast<ptrdiff_t>(size));
    const std::string error = error_of([&] { SafetensorsFile(cut, "cut"); });
    if (!error.starts_with("cut: ")) FAIL("cut to ", size, " bytes: ", error);
  }
  Buffer longer = good;
  longer.push_back(0);
  CHECK(contains(error_of([&] { SafetensorsFile(longer, "l"); }), "bytes after the last tensor"));
}

TEST_CASE("flips: a weight that becomes infinite or NaN is found when loaded") {
  Buffer bad = small_safetensors();
  bad[8 + kHeader.size() + 3] = 0x7f;
  bad[8 + kHeader.size() + 2] = 0x80;
  CHECK(
      contains(error_of([&] { SafetensorsFile(bad, "bad").load("w"); }), "'w': element 0 is inf"));
}

}  // namespace
}  // namespace vitrun
