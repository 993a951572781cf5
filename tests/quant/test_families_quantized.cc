// Families quantized by the default recipe: the relative error (L2) of the embedding, on images
// that calibration has not seen.
#include <random>

#include "quant/options.h"
#include "runtime/float/reference.h"
#include "runtime/integer/engine.h"
#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/float/golden_families.h"

namespace vitrun {
namespace {

Tensor random_images(Dims dims) {
  Tensor images(std::move(dims));
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  for (float& x : images.data) x = normal(random);
  return images;
}

Buffer quantized(const GoldenModel& f, const std::string& bits, int64_t images = 32) {
  const std::string raw = kFamilies + "images_" + f.size + ".npy";
  const std::string folder = f.folder();
  const char* const args[] = {"vitquant",    "--weights", folder.c_str(),
                              "--calib-raw", raw.c_str(), "--bits",
                              bits.c_str(),  "--threads", "1"};
  cxxopts::Options parser("vitquant");
  add_quantize_options(parser);
  QuantizeJob job = read_job(parser.parse(static_cast<int>(std::size(args)), args));
  Dims dims = f.images().dims;
  dims[0] = images;
  return quantize_model(std::move(job.model), tensor_source(random_images(dims)), job.options)
      .file.serialize();
}

// The outputs of two images, each with the dimensions of what is expected.
std::vector<Tensor> outputs_of(const Buffer& bytes, const GoldenModel& f) {
  const Aligned aligned(bytes);
  QbinFile file = QbinFile::from_memory(aligned.bytes(), "quantized");
  const QuantGraph graph(file, "main");
  Engine engine(graph, {.max_batch = 2, .outputs = f.outputs});
  std::vector<Tensor> values;
  std::vector<float*> to;
  for (size_t i = 0; i < f.outputs.size(); i++) {
    const PlannedOutput& output = engine.outputs()[i];
    const Tensor& value = values.emplace_back(f.expected(f.outputs[i]));
    if (element_count(value.dims) != 2 * output.rows * output.cols)
      fail(f.outputs[i], " is of ", output.rows, " rows of ", output.cols);
  }
  for (Tensor& value : values) to.push_back(value.data.data());
  engine.run(f.images().data.data(), 2, to.data());
  return values;
}

double relative_error(const Tensor& got, const Tensor& want) {
  double error = 0, energy = 0;
  for (size_t i = 0; i < want.data.size(); i++) {
    error += std::pow(double{got.data[i]} - double{want.data[i]}, 2);
    energy += std::pow(double{want.data[i]}, 2);
  }
  return std::sqrt(error / energy);
}

// The bound is that of the embedding; the others only show that they are what they should be.
std::string wrong_outputs(const GoldenModel& f, const std::string& bits, double bound) {
  const std::vector<Tensor> got = outputs_of(quantized(f, bits), f);
  std::string wrong;
  for (size_t i = 0; i < got.size() && wrong.empty(); i++) {
    const std::string& output = f.outputs[i];
    wrong = above("relative error of " + output, relative_error(got[i], f.expected(output)),
                  output == "embedding" ? bound : 3 * bound);
  }
  return wrong;
}

TEST_CASE("embeddings of 8 bits stay within 0.06") {
  for (const GoldenModel& f : golden_models("right"))
    check_family(f, "w8", [&] { return wrong_outputs(f, "8/8", 0.06); });
}

TEST_CASE("embeddings of weights of 4 bits stay within 0.25") {
  for (const GoldenModel& f : golden_models("right"))
    check_family(f, "w4", [&] { return wrong_outputs(f, "4/8", 0.25); });
}

TEST_CASE("an entropy-coded file of any family is no larger than asked for") {
  for (const GoldenModel& f : golden_models("right"))
    check_family(f, "coded", [&] {
      const auto bytes = std::ssize(quantized(f, "5/8", 8));
      const Buffer file = quantized(f, cat("size:", bytes), 8);
      const double error = relative_error(outputs_of(file, f)[0], f.expected(f.outputs[0]));
      return std::ssize(file) > bytes ? std::string("too large")
                                      : above("relative error", error, 0.25);
    });
}

}  // namespace
}  // namespace vitrun
