// The program viteval: it measures the accuracy of a model on labelled images and its agreement
// with the float model, or does both for a table of quantizations, or measures detections.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "models/base/error.h"
#include "quant/report/eval_table.h"
#include "runtime/float/blas.h"
#include "runtime/program/cli.h"
#include "runtime/program/coco/coco_command.h"
#include "runtime/program/embeddings.h"
#include "runtime/program/evaluate.h"
#include "runtime/program/zero_shot.h"
#include "runtime/vision/class_folders.h"

namespace vitrun {
namespace {

// The images, and how they were read.
struct Images {
  std::vector<Sample> samples;
  std::string labels_from;  // Labelling::from
  Exif exif = Exif::kApply;
};

nlohmann::ordered_json report(const Evaluation& n, const Predictor& model, const Images& images,
                              bool reference) {
  nlohmann::ordered_json j = {{"model", model.info().arch},
                              {"engine", model.engine()},
                              {"images", n.images},
                              {"skipped", n.unread.size()},
                              {"labels_from", images.labels_from},
                              {"exif", exif_name(images.exif)}};
  if (n.labelled) {
    j["top1"] = n.top1_share();
    if (model.info().num_classes > 1) j["top5"] = n.top5_share();
  }
  if (reference) {
    j["agreement"] = n.agreement();
    j["logits_error"] = n.logits_error();
  }
  j["seconds"] = n.seconds;
  j["images_per_second"] = static_cast<double>(n.images) / n.seconds;
  return j;
}

void print(const nlohmann::ordered_json& j) {
  for (const auto& [key, value] : j.items()) {
    const bool fraction = key == "top1" || key == "top5" || key == "agreement" ||
                          key == "logits_error" || key == "knn1" || key == "knn5" ||
                          key == "embedding_error" || key == "neighbour_agreement";
    if (fraction)
      std::printf("%-18s %.2f %%\n", key.c_str(), 100 * value.get<double>());
    else
      std::printf("%-18s %s\n", key.c_str(),
                  value.is_string() ? value.get<std::string>().c_str() : value.dump().c_str());
  }
}

void check_same_input(const ModelInfo& a, const ModelInfo& b) {
  if (a.image_height != b.image_height || a.image_width != b.image_width)
    fail("--reference is another kind of model: ", b.image_height, "x", b.image_width,
         " pixels instead of ", a.image_height, "x", a.image_width);
}

void check_same_classes(const ModelInfo& a, const ModelInfo& b) {
  if (a.num_classes != b.num_classes)
    fail("--reference is another kind of model: ", b.num_classes, " classes instead of ",
         a.num_classes);
}

Images choose_images(const cxxopts::ParseResult& args, const ModelInfo& model) {
  ImageList list = find_images(args["images"].as<std::string>());
  std::cerr << left_out_note(list);
  const Labelling labelling = label_by_folder(list, model);
  if (!labelling.note.empty()) std::cerr << labelling.note << "\n";
  if (const auto limit = static_cast<size_t>(int_option(args, "limit", 0, 1 << 30));
      limit && limit < list.samples.size())
    list.samples.resize(limit);
  return {std::move(list.samples), labelling.from, exif_option(args)};
}

void print_report(const nlohmann::ordered_json& j, bool as_json) {
  if (as_json)
    std::cout << j.dump(2) << "\n";
  else
    print(j);
}

// Reports on embeddings, those of a model without classes or where --embedding asks for them.
int run_embeddings(const cxxopts::ParseResult& args, Predictor& model, Predictor* reference,
                   const Images& images) {
  ImageLoader loader(model.info(), images.exif);
  Embeddings e;
  {
    ProgressBar bar("evaluating");
    e = embed(model, reference, loader, images.samples,
              static_cast<size_t>(int_option(args, "batch", 1, 4096)),
              [&](double done) { bar.update(done); });
  }
  std::cerr << unread_note(e.unread);
  nlohmann::ordered_json j = {{"model", model.info().arch},        {"engine", model.engine()},
                              {"images", e.labels.size()},         {"skipped", e.unread.size()},
                              {"labels_from", images.labels_from}, {"exif", exif_name(images.exif)},
                              {"embedding", e.values.dims[1]}};
  if (std::ranges::any_of(e.labels, [](int label) { return label >= 0; })) {
    const std::vector<double> shares = neighbour_accuracy(e.values, e.labels, {1, 5});
    j["knn1"] = shares[0];
    j["knn5"] = shares[1];
  }
  if (reference) {
    const EmbeddingAgreement a = agreement_of(e);
    j["cosine"] = a.cosine;
    j["worst_cosine"] = a.worst_cosine;
    j["embedding_error"] = a.error;
    if (e.labels.size() > 2) j["neighbour_agreement"] = a.neighbour;  // else there is no choice
  }
  j["seconds"] = e.seconds;
  j["images_per_second"] = static_cast<double>(e.labels.size()) / e.seconds;
  print_report(j, args.count("json") > 0);
  return 0;
}

int run_one(const cxxopts::ParseResult& args) {
  if (!args.count("images")) throw UsageError("--images is missing");
  PredictorOptions options = predictor_options(args);
  options.verify = true;
  const NamedClasses classes = class_options(args);
  const auto model = open_with_classes(args["model"].as<std::string>(), options, classes);
  std::unique_ptr<Predictor> reference;
  if (args.count("reference")) {
    options.isa.clear();  // a float model has no integer kernels to choose
    reference = open_with_classes(args["reference"].as<std::string>(), options, classes);
  }
  if (reference) check_same_input(model->info(), reference->info());
  const Images images = choose_images(args, model->info());
  if (args.count("embedding") || model->info().num_classes == 0)
    return run_embeddings(args, *model, reference.get(), images);
  if (reference) check_same_classes(model->info(), reference->info());
  ImageLoader loader(model->info(), images.exif);
  ReferenceLogits expected;
  if (reference) expected = [&](int64_t, const Tensor& batch) { return reference->run(batch); };
  Evaluation result;
  {
    ProgressBar bar("evaluating");
    result =
        evaluate(*model, expected, loader, images.samples, static_cast<size_t>(options.max_batch),
                 [&](double done) { bar.update(done); });
  }
  std::cerr << unread_note(result.unread);
  print_report(report(result, *model, images, reference != nullptr), args.count("json") > 0);
  return 0;
}

int run_table(const cxxopts::ParseResult& args) {
  if (!args.count("images")) throw UsageError("--images is missing");
  for (const char* needed : {"weights", "calib", "output"})
    if (!args.count(needed)) throw UsageError(cat("--table needs --", needed));
  check_outputs(args, {"output"});
  TableOptions options;
  options.rows = read_rows(args["table"].as<std::string>());
  options.seeds = args["seeds"].as<std::vector<int>>();
  options.weights = args["weights"].as<std::string>();
  options.calibration = args["calib"].as<std::string>();
  options.images = args["images"].as<std::string>();
  options.state = args["output"].as<std::string>();
  options.predictor = predictor_options(args);
  options.exif = exif_option(args);
  const ModelInfo model = load_float_model(options.weights, options.predictor.weights).info;
  std::cout << make_table(options, choose_images(args, model).samples);
  return 0;
}

int run(const cxxopts::ParseResult& args) {
  if (args.count("table") + (args.count("coco") || args.count("model")) != 1)
    throw UsageError("give --model, --table or --coco");
  for (const char* option : {"detections", "report"})
    if (args.count(option) && !args.count("coco"))
      throw UsageError(cat("--", option, " needs --coco"));
  if (args.count("coco")) return run_coco(args);
  return args.count("table") ? run_table(args) : run_one(args);
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  vitrun::choose_blas_kernels(argv);
  cxxopts::Options options("viteval",
                           "Top-1, top-5 and agreement with the float model on labelled images; "
                           "COCO's figures of detections.");
  options.add_options()                                                      //
      ("m,model", "a .qbin or .safetensors", cxxopts::value<std::string>())  //
      ("images", "a list of `path label` lines, or a folder with a folder per class",
       cxxopts::value<std::string>())  //
      ("reference", "the model to agree with, usually the float one",
       cxxopts::value<std::string>())                                                      //
      ("limit", "only so many images; 0: all", cxxopts::value<int>()->default_value("0"))  //
      ("t,threads", "threads; default: one per CPU", cxxopts::value<int>())                //
      ("isa", "kernels to use; default: the best",
       cxxopts::value<std::string>()->default_value(""))                      //
      ("batch", "images per run", cxxopts::value<int>()->default_value("8"))  //
      ("embedding", "evaluate embeddings, as of a model without classes")     //
      ("json", "print one JSON object; fractions are 0..1")                   //
      ("table",
       "quantize and evaluate each row of this file, `name | vitquant options`, and print a "
       "Markdown table",
       cxxopts::value<std::string>())                                          //
      ("w,weights", "table: the .safetensors", cxxopts::value<std::string>())  //
      ("calib", "table: calibration images", cxxopts::value<std::string>())    //
      ("seeds", "table: which calibration images, a column each",
       cxxopts::value<std::vector<int>>()->default_value("0,1,2"))  //
      ("o,output", "table: JSON of all results; what it holds already is not done again",
       cxxopts::value<std::string>());
  vitrun::add_coco_options(options);
  vitrun::add_class_options(options);
  vitrun::add_exif_option(options);
  vitrun::add_weight_options(options);
  const std::string examples =
      "  viteval --model vit.qbin --images val/list.txt\n"
      "  viteval --model vit.qbin --images val/ --reference model.safetensors --json\n"
      "  viteval --embedding --model vit.qbin --images val/ --reference model.safetensors\n"
      "  viteval --model street.qbin --coco instances.json --images val/\n"
      "  viteval --coco instances.json --detections found.json --report found.html\n"
      "  viteval --table bench/tables/methods.txt --weights vit.safetensors --calib train/ \\\n"
      "          --images val/list.txt --seeds 0,1,2 -o methods.json > methods.md\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
