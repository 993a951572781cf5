// The program vitrun: it classifies images.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <limits>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "models/base/listed.h"
#include "models/cifar10/embedded.h"
#include "runtime/api/vitrun.h"
#include "runtime/cpus.h"
#include "runtime/files/npy.h"
#include "runtime/program/cli.h"
#include "runtime/program/detect/detect_images.h"
#include "runtime/program/detect/object_detector.h"
#include "runtime/program/image_loader.h"
#include "runtime/program/info.h"
#include "runtime/program/predictor.h"
#include "runtime/program/similar.h"
#include "runtime/program/zero_shot.h"
#include "runtime/vision/image.h"
#include "runtime/vision/preprocess.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

class Output {
 public:
  Output(const cxxopts::ParseResult& args, const ModelInfo& config, const std::string& engine)
      : json_(args.count("json") > 0),
        top_(int_option(args, "topk", 1, 100000)),
        labels_(config.labels),
        classes_(config.num_classes) {
    if (args.count("labels")) labels_ = read_labels(args["labels"].as<std::string>(), classes_);
    document_ = {{"model", config.arch}, {"engine", engine}, {"images", Json::array()}};
  }

  // `logits` is null for a model that has none.
  void add(const std::string& name, const float* logits, double milliseconds) {
    std::vector<vit_prediction> top(logits ? static_cast<size_t>(std::min(top_, classes_)) : 0);
    if (logits) vit_top_k(logits, classes_, static_cast<int>(top.size()), top.data());
    if (json_) return add_json(name, top, milliseconds);
    std::printf("%s  (%.1f ms)\n", name.c_str(), milliseconds);
    for (const vit_prediction& p : top) {
      if (is_single()) {
        std::printf("  logit %.3f, sigmoid %.1f %%  %s\n", static_cast<double>(p.logit),
                    100 * static_cast<double>(p.probability), label(0).c_str());
        continue;
      }
      std::string bar;
      for (int i = 0; i < static_cast<int>(std::lround(p.probability * 20)); i++) bar += "█";
      for (size_t i = bar.size() / 3; i < 20; i++) bar += "·";
      std::printf("  %5.1f %%  %s  %5d  %s\n", 100 * static_cast<double>(p.probability),
                  bar.c_str(), p.class_index, label(p.class_index).c_str());
    }
  }

  // Names an image that could not be read, which has no answer.
  void add_unread(const std::string& name, const std::string& why) {
    unread_++;
    std::fprintf(stderr, "vitrun: %s\n", why.c_str());
    if (json_) document_["images"].push_back({{"image", name}, {"error", why}});
  }

  void finish() {
    if (!json_) return;
    document_["skipped"] = unread_;
    document_["peak_memory_mb"] = peak_memory_mb();
    std::cout << document_.dump(2, ' ', false, Json::error_handler_t::replace) << "\n";
  }

 private:
  std::string label(int c) const { return class_name(labels_, c); }

  // One output is no share among classes but a score, whose sigmoid vit_top_k() gives.
  bool is_single() const { return classes_ == 1; }

  void add_json(const std::string& name, const std::vector<vit_prediction>& top,
                double milliseconds) {
    Json image = {{"image", name}, {"ms", milliseconds}, {"top", Json::array()}};
    for (const vit_prediction& p : top) {
      Json& entry = image["top"].emplace_back(
          Json{{"class", p.class_index}, {"label", label(p.class_index)}});
      entry[is_single() ? "sigmoid" : "probability"] = p.probability;
      entry["logit"] = p.logit;
    }
    document_["images"].push_back(std::move(image));
  }

  bool json_;
  int top_;
  std::vector<std::string> labels_;
  int classes_;
  int64_t unread_ = 0;
  Json document_;
};

struct Input {
  std::vector<std::string> names;
  Batches::Load load;
};

Input raw_input(const std::string& path, const ModelInfo& config) {
  auto all = std::make_shared<Tensor>(read_raw_images(path, config));
  Input in;
  for (int64_t i = 0; i < all->dims[0]; i++) in.names.push_back(cat(path, "[", i, "]"));
  in.load = [all](int64_t first, int64_t n) { return loaded_part(*all, first, n); };
  return in;
}

Input file_input(const std::vector<std::string>& paths, const ModelInfo& config, Exif exif) {
  std::vector<Sample> samples;
  for (const std::string& p : paths) samples.push_back({p, -1});
  auto loader = std::make_shared<ImageLoader>(config, exif);
  return {paths, [=](int64_t first, int64_t n) {
            return loader->load(samples, static_cast<size_t>(first), static_cast<size_t>(n));
          }};
}

Input demo_input(const ModelInfo& config) {
  const Image image = decode_image(embedded_image(), "the embedded image");
  Tensor t({1, 3, config.image_height, config.image_width});
  PreprocessScratch scratch;
  preprocess(view_of(image), config, t.data, scratch);
  return {{"embedded image"}, [t](int64_t first, int64_t n) { return loaded_part(t, first, n); }};
}

void check_usage(const cxxopts::ParseResult& args) {
  const bool images = args.count("image") > 0, raw = args.count("raw") > 0,
             demo = args.count("demo") > 0;
  if (args.count("report")) throw UsageError("--report shows what --similar or --search found");
  if (int{images} + int{raw} + int{demo} != 1)
    throw UsageError("give images, or --raw FILE, or --demo");
}

Input choose_input(const cxxopts::ParseResult& args, const ModelInfo& config) {
  if (args.count("raw")) return raw_input(args["raw"].as<std::string>(), config);
  if (args.count("demo")) return demo_input(config);
  return file_input(args["image"].as<std::vector<std::string>>(), config, exif_option(args));
}

// Returns the outputs for which an option names a file, and the logits if the model has any.
std::vector<std::string> wanted_outputs(const cxxopts::ParseResult& args,
                                        const Predictor& predictor) {
  const std::vector<std::string> has = predictor.outputs();
  std::vector<std::string> wanted;
  for (const char* name : {"logits", "embedding", "features"}) {
    const bool there = std::ranges::find(has, name) != has.end();
    if (!there && args.count(name))
      fail("--", name, ": the model has no such output, only ", listed(has, has.size(), ""));
    if (there && (args.count(name) || std::string(name) == "logits")) wanted.push_back(name);
  }
  return wanted;
}

// The values of the outputs that options name files for, over all images. Rows of images that could
// not be read are NaN.
class OutputFiles {
 public:
  OutputFiles(const cxxopts::ParseResult& args, const std::vector<std::string>& outputs,
              size_t images)
      : images_(static_cast<int64_t>(images)) {
    for (size_t o = 0; o < outputs.size(); o++)
      if (args.count(outputs[o])) files_.push_back({args[outputs[o]].as<std::string>(), o, {}});
  }

  bool empty() const { return files_.empty(); }

  // Keeps a batch's values, which belong to the images `rows`.
  void keep(const std::vector<Tensor>& values, const std::vector<size_t>& rows) {
    for (File& f : files_) {
      const Tensor& part = values[f.output];
      if (f.all.dims.empty()) {
        Dims dims = part.dims;
        dims[0] = images_;
        f.all = Tensor(dims);
        std::ranges::fill(f.all.data, std::numeric_limits<float>::quiet_NaN());
      }
      const size_t size = f.all.data.size() / static_cast<size_t>(images_);
      for (size_t i = 0; i < rows.size(); i++)
        std::copy_n(part.data.begin() + static_cast<ptrdiff_t>(i * size), size,
                    f.all.data.begin() + static_cast<ptrdiff_t>(rows[i] * size));
    }
  }

  void write() const {
    for (const File& f : files_) write_npy(f.path, f.all);
  }

 private:
  struct File {
    std::string path;
    size_t output;
    Tensor all;
  };
  int64_t images_;
  std::vector<File> files_;
};

// Answers for the images of a batch in their order; `logits` is null for a model that has none.
void answer(const LoadedImages& batch, const Input& input, const Tensor* logits,
            double milliseconds, Output& output) {
  size_t done = 0;
  auto bad = batch.unread.begin();
  for (size_t i : batch.read) {
    for (; bad != batch.unread.end() && bad->index < i; ++bad)
      output.add_unread(input.names[bad->index], bad->why);
    output.add(
        input.names[i],
        logits ? logits->data.data() + static_cast<int64_t>(done) * logits->dims[1] : nullptr,
        milliseconds);
    done++;
  }
  for (; bad != batch.unread.end(); ++bad) output.add_unread(input.names[bad->index], bad->why);
}

// Runs the model over all images; returns how many could not be read.
size_t classify(const Input& input, Predictor& predictor, const std::vector<std::string>& wanted,
                int64_t batch, bool ahead, OutputFiles& files, Output& output) {
  const auto logits = std::ranges::find(wanted, "logits") - wanted.begin();
  size_t unread = 0;
  Batches batches(input.load, count_of(input.names), batch, ahead);
  while (const auto loaded = batches.next()) {
    const size_t read = loaded->read.size();
    unread += loaded->unread.size();
    std::vector<Tensor> values;
    const auto start = std::chrono::steady_clock::now();
    if (read > 0) values = predictor.run(loaded->images, wanted);
    const std::chrono::duration<double, std::milli> spent =
        std::chrono::steady_clock::now() - start;
    if (read > 0) files.keep(values, loaded->read);
    const bool scored = logits < static_cast<ptrdiff_t>(values.size());
    answer(*loaded, input, scored ? &at(values, logits) : nullptr,
           spent.count() / static_cast<double>(std::max<size_t>(read, 1)), output);
  }
  return unread;
}

// Says that images are missing from the answer.
void report(size_t unread, size_t images, const OutputFiles& files) {
  if (unread > 0 && (images > 1 || !files.empty()))
    std::fprintf(stderr, "vitrun: %zu of %zu images could not be read%s\n", unread, images,
                 files.empty() ? "" : "; their rows in the .npy files are NaN");
}

int run(const cxxopts::ParseResult& args) {
  const std::string model = args.count("model") ? args["model"].as<std::string>() : "";
  if (args.count("info")) return print_info(model, weight_options(args), args.count("json") > 0);
  if (holds_detector(model)) return detect_images(args, model);
  if (asks_for_similar(args)) {
    PredictorOptions options = predictor_options(args);
    options.weights.text = args.count("search") > 0;
    const auto embedder = open_predictor(model, options);
    return find_similar(args, *embedder);
  }
  if (args.count("draw")) throw UsageError("--draw shows what a detector finds");
  check_usage(args);
  for (const char* output : {"logits", "embedding", "features"})
    if (args.count(output)) check_npy_writable(args[output].as<std::string>());
  PredictorOptions options = predictor_options(args);
  options.verify = args.count("verify") > 0;
  const auto predictor = open_with_classes(model, options, class_options(args));
  const ModelInfo& config = predictor->info();
  Output output(args, config, predictor->engine());
  const Input input = choose_input(args, config);
  const std::vector<std::string> wanted = wanted_outputs(args, *predictor);
  if (wanted.empty())
    std::fputs("vitrun: this model has no classes; --embedding FILE.npy writes its vectors\n",
               stderr);
  OutputFiles files(args, wanted, input.names.size());
  const bool ahead = options.threads < available_cpus();
  const size_t unread =
      classify(input, *predictor, wanted, options.max_batch, ahead, files, output);
  output.finish();
  if (unread == input.names.size() && !files.empty())  // what the rows look like, nobody has said
    files.keep(predictor->run(Tensor({1, 3, config.image_height, config.image_width}), wanted), {});
  files.write();
  report(unread, input.names.size(), files);
  return unread > 0 ? 1 : 0;
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  cxxopts::Options options("vitrun",
                           "Classifies images with a quantized vision transformer, in integers.");
  options.add_options()  //
      ("m,model", "a .qbin, or a .safetensors run in float; none: the embedded model",
       cxxopts::value<std::string>())                                                  //
      ("topk", "how many classes to show", cxxopts::value<int>()->default_value("5"))  //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>())            //
      ("isa", "kernels to use; default: the best",
       cxxopts::value<std::string>()->default_value(""))                      //
      ("batch", "images per run", cxxopts::value<int>()->default_value("1"))  //
      ("labels", "class names, one a line", cxxopts::value<std::string>())    //
      ("json", "print one JSON object")                                       //
      ("logits", "write the logits [images, classes] to this .npy",
       cxxopts::value<std::string>())  //
      ("embedding", "write the image embeddings [images, D] to this .npy",
       cxxopts::value<std::string>())  //
      ("features", "write the tokens after the last norm [images, tokens, D] to this .npy",
       cxxopts::value<std::string>())  //
      ("raw", "a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<std::string>())                                //
      ("verify", "check the weights against their checksums first")  //
      ("info", "describe the model instead")                         //
      ("demo", "classify the embedded image")                        //
      ("image", "images", cxxopts::value<std::vector<std::string>>());
  vitrun::add_class_options(options);
  vitrun::add_similar_options(options);
  vitrun::add_detect_options(options);
  vitrun::add_exif_option(options);
  vitrun::add_weight_options(options);
  options.parse_positional({"image"});
  options.positional_help("IMAGE...");
  const std::string examples =
      "  vitrun photo.jpg                                the embedded CIFAR-10 model\n"
      "  vitrun --model deit_s.qbin cat.jpg dog.png      top 5 of each image\n"
      "  vitrun --model deit_s.qbin --json *.jpg | jq .  for scripts\n"
      "  vitrun --model deit_s.qbin --embedding e.npy *.jpg\n"
      "                                                  a vector for each image\n"
      "  vitrun --model clip.qbin --classes 'cat,dog,a red car' photo.jpg\n"
      "                                                  classes by their names\n"
      "  vitrun --model dino.qbin --similar cat.jpg photos/ --report found.html\n"
      "                                                  the photos most like one\n"
      "  vitrun --model clip.qbin --search 'a red car' photos/\n"
      "  vitrun --model street.qbin photo.jpg --draw found.png\n"
      "                                                  objects, their boxes and masks\n"
      "  vitrun --model deit_s.qbin --info               what is in the file\n"
      "  vitrun --model weights/ --heads 6 cat.jpg       float weights without a config.json\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
