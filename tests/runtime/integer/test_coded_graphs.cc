// Models whose weights are entropy-coded: the same bits as with the same codes in panels, and
// damaged ones refused with their reason.
#include "tests/runtime/integer/bad_graphs.h"

namespace vitrun {
namespace {

const char* const kWeights[] = {"embed.weight", "qkv.weight", "proj.weight", "head.weight"};

Model coded() {
  Model m = good();
  for (const char* weight : kWeights) m.code(weight);
  return m;
}

std::vector<float> logits_of(const Buffer& bytes) {
  const Aligned copy(bytes);
  const QuantModel model(QbinFile::from_memory(copy.bytes(), "m.qbin"));
  Tensor image({1, 3, 4, 4});
  for (size_t i = 0; i < image.data.size(); i++)
    image.data[i] = static_cast<float>(i * 29 % 47) / 23 - 1;
  return Engine(model.graph(), {}).run_outputs(image, {})[0].data;
}

std::function<void(Model&)> edits(const std::function<void(Model&)>& edit) {
  return [edit](Model& m) {
    m = coded();
    edit(m);
  };
}

}  // namespace

TEST_CASE("coded weights: the same bits as packed ones, alone and beside them") {
  const std::vector<float> packed = logits_of(good().bytes());
  CHECK(logits_of(coded().bytes()) == packed);
  Model one = good();
  one.code("qkv.weight");
  CHECK(logits_of(one.bytes()) == packed);
}

TEST_CASE("coded weights: nodes that share one decode it once") {
  Model packed = good();
  packed.add(K::kLinear, "again", {"mean8"}, {}, "head.weight", "head.bias");
  packed.add(K::kAdd, "both", {"head", "again"});
  packed.graph.outputs = {{"logits", packed.graph.find("both")}};
  Model shared = packed;
  shared.code("head.weight");
  CHECK(logits_of(shared.bytes()) == logits_of(packed.bytes()));
  const Aligned copy(shared.bytes());
  const QuantModel model(QbinFile::from_memory(copy.bytes(), "m.qbin"));
  CHECK(model.graph().decoded_bytes() == pack_bytes(2, 8, 4));
}

TEST_CASE("coded weights: what a bad one is refused for") {
  check_all({
      {"no scale", edits([](Model& m) { m.tensors.erase("qkv.weight_scale"); }),
       "tensor 'qkv.weight_scale' is missing"},
      {"a scale for each column", edits([](Model& m) { m.floats("qkv.weight_scale", {24}); }),
       "tensor 'qkv.weight_scale' is [24], the model needs [1]"},
      {"a negative scale", edits([](Model& m) { m.floats("qkv.weight_scale", {1}); }),
       "tensor 'qkv.weight_scale' holds -1 at 0, expected a positive number"},
      {"another shape", edits([](Model& m) {
         m.tensors.at("qkv.weight").dims = {8, 24};
       }),
       "'qkv.weight' is [8, 24], its input has 8 columns"},
      {"too few codes", edits([](Model& m) {
         Buffer& bytes = m.tensors.at("qkv.weight").bytes;
         bytes.resize(bytes.size() - 4);
       }),
       "tensor 'qkv.weight': the codes end too early"},
      {"codes of more bits", edits([](Model& m) { m.tensors.at("qkv.weight").bits = 3; }),
       "tensor 'qkv.weight': expected codes of 3 bits in ascending order, found 0 to 15"},
      {"wrong frequencies", edits([](Model& m) { m.tensors.at("qkv.weight").bytes[3] ^= 1; }),
       "tensor 'qkv.weight': frequencies sum to "},
      {"a low state", edits([](Model& m) {
         Buffer& bytes = m.tensors.at("qkv.weight").bytes;
         std::fill_n(bytes.begin() + 2 + 2 * 16 + 4, 4, uint8_t{0});
       }),
       "tensor 'qkv.weight': a state is "},
  });
}

}  // namespace vitrun
