#include "runtime/program/zero_shot.h"

#include <algorithm>
#include <fstream>
#include <set>

#include "models/base/error.h"
#include "models/base/index.h"
#include "runtime/program/cli.h"
#include "runtime/text/class_vectors.h"

namespace vitrun {
namespace {

constexpr size_t kMaxClasses = 100000;

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(" \t\r"), end = text.find_last_not_of(" \t\r");
  return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

// The parts between separators, trimmed, without empty ones at the end.
std::vector<std::string> parts_of(const std::string& text, char separator) {
  std::vector<std::string> parts;
  size_t begin = 0, end;
  while ((end = text.find(separator, begin)) != text.npos) {
    parts.push_back(trimmed(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  parts.push_back(trimmed(text.substr(begin)));
  while (!parts.empty() && parts.back().empty()) parts.pop_back();
  return parts;
}

std::vector<std::string> names_in(const std::string& option) {
  if (!option.starts_with('@')) return parts_of(option, ',');
  const std::string path = option.substr(1);
  std::ifstream in(path, std::ios::binary);
  if (!in) throw FileError(cat(path, ": cannot open"));
  std::string text{std::istreambuf_iterator<char>(in), {}};
  constexpr std::string_view kMark = "\xef\xbb\xbf";
  if (text.starts_with(kMark)) text.erase(0, kMark.size());
  return parts_of(text, '\n');
}

void check_names(const std::vector<std::string>& names) {
  std::set<std::string> seen;
  if (names.empty()) throw UsageError("--classes names no class");
  if (names.size() > kMaxClasses)
    throw UsageError(cat("--classes: ", names.size(), " classes, at most ", kMaxClasses));
  for (const std::string& name : names) {
    if (name.empty()) throw UsageError("--classes: a name is empty");
    if (!seen.insert(name).second) throw UsageError(cat("--classes: '", name, "' appears twice"));
  }
}

class ClassPredictor : public Predictor {
 public:
  ClassPredictor(std::unique_ptr<Predictor> model, const NamedClasses& named)
      : model_(std::move(model)), info_(model_->info()) {
    const TextSide text = model_->text();
    scale_ = double{text.logit_scale};
    classes_ = class_embeddings(named, text.embed);
    info_.labels = named.names;
    info_.num_classes = count_of(named.names);
  }

  const ModelInfo& info() const override { return info_; }
  std::vector<std::string> outputs() const override {
    std::vector<std::string> names = {"logits"};
    for (const std::string& name : model_->outputs())
      if (name != "logits") names.push_back(name);
    return names;
  }

  std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) override {
    std::vector<std::string> inner = names;
    for (std::string& name : inner)
      if (name == "logits") name = "embedding";
    // An output may be asked for once.
    std::vector<std::string> once = inner;
    std::ranges::sort(once);
    once.erase(std::unique(once.begin(), once.end()), once.end());
    const std::vector<Tensor> values = model_->run(images, once);
    std::vector<Tensor> out;
    for (size_t i = 0; i < names.size(); i++) {
      const Tensor& value = at(values, std::ranges::find(once, inner[i]) - once.begin());
      out.push_back(names[i] == "logits" ? logits(value) : value);
    }
    return out;
  }

  std::string engine() const override { return model_->engine(); }
  TextSide text() override { return model_->text(); }

 private:
  Tensor logits(const Tensor& images) const {
    const size_t width = static_cast<size_t>(images.dims[1]),
                 classes = static_cast<size_t>(classes_.dims[0]);
    if (classes_.dims[1] != images.dims[1])
      fail("embeddings of images have ", images.dims[1], " columns, those of texts ",
           classes_.dims[1]);
    Tensor out({images.dims[0], classes_.dims[0]});
    for (size_t i = 0; i < static_cast<size_t>(images.dims[0]); i++)
      compare_with_classes({images.data.data() + i * width, width}, classes_.data, scale_,
                           {out.data.data() + i * classes, classes});
    return out;
  }

  std::unique_ptr<Predictor> model_;
  ModelInfo info_;
  double scale_;
  Tensor classes_;
};

}  // namespace

void add_class_options(cxxopts::Options& options) {
  options.add_options()  //
      ("classes", "names of classes for a model of images and texts: a,b,c or @FILE, one a line",
       cxxopts::value<std::string>(), "NAMES")  //
      ("template",
       "a text with {} for the name; may be given several times; default: seven of CLIP's",
       cxxopts::value<std::string>(), "TEXT");
}

NamedClasses class_options(const cxxopts::ParseResult& args) {
  NamedClasses out;
  // The parser would cut a list at its commas.
  for (const auto& argument : args.arguments())
    if (argument.key() == "template") out.templates.push_back(argument.value());
  for (const std::string& t : out.templates)
    if (t.find(kNamePlace) == t.npos)
      throw UsageError(cat("--template '", t, "' has no {} for the name"));
  if (!args.count("classes")) {
    if (!out.templates.empty()) throw UsageError("--template needs --classes");
    return out;
  }
  if (out.templates.empty()) out.templates = default_templates();
  out.names = names_in(args["classes"].as<std::string>());
  check_names(out.names);
  return out;
}

Tensor class_embeddings(const NamedClasses& classes, const TextEmbedder& embed) {
  Tensor out;
  for (const std::string& name : classes.names) {
    const Tensor vector = class_vector(name, classes.templates, embed);
    out.data.insert(out.data.end(), vector.data.begin(), vector.data.end());
    out.dims = {count_of(classes.names), vector.dims[1]};
  }
  return out;
}

std::unique_ptr<Predictor> with_classes(std::unique_ptr<Predictor> model,
                                        const NamedClasses& classes) {
  return std::make_unique<ClassPredictor>(std::move(model), classes);
}

std::unique_ptr<Predictor> open_with_classes(const std::string& path, PredictorOptions options,
                                             const NamedClasses& classes) {
  options.weights.text = !classes.names.empty();
  auto model = open_predictor(path, options);
  return classes.names.empty() ? std::move(model) : with_classes(std::move(model), classes);
}

}  // namespace vitrun
