#include "lrp/program/explainer.h"

#include <algorithm>

#include "lrp/detect/detector_relevance.h"
#include "lrp/program/image_work.h"
#include "lrp/report/heatmap.h"
#include "models/base/error.h"
#include "runtime/files/model_file.h"
#include "runtime/program/cli.h"

namespace vitrun {
namespace {

// The name of what an image's relevance explains: a class, or for -1 the embedding.
std::string target_text(const ModelInfo& info, int target) {
  return target < 0 ? "embedding" : class_name(info.labels, target);
}

class ClassifierExplainer : public Explainer {
 public:
  explicit ClassifierExplainer(const cxxopts::ParseResult& args)
      : model_(load_weights(args["weights"].as<std::string>(), weight_options(args))),
        work_(choose_work(args, model_.info, false)),
        epsilon_(epsilon_option(args)),
        engine_(model_.graph, model_.weights, thread_option(args), static_cast<float>(epsilon_)) {}

  int64_t count() const override { return work_.count; }
  Scores no_scores() const override {
    return {model_.graph, model_.info.arch, work_.target, epsilon_};
  }

  double add(int64_t first, int64_t n, Scores& scores) override {
    const LoadedImages batch = work_.load(first, n);
    std::fputs(unread_note(batch.unread).c_str(), stderr);
    scores.skipped += count_of(batch.unread);
    double leak = 0;
    if (batch.read.empty()) return leak;
    for (const ImageRelevance& image : engine_.run(batch.images, of_read(batch, work_.targets))) {
      scores.add(image);
      leak = std::max(leak, image.conservation_error);
    }
    return leak;
  }

  std::vector<Picture> draw(int64_t count) override {
    std::vector<Picture> pictures;
    for (int64_t i = 0; i < work_.count && count_of(pictures) < count; i++) {
      const LoadedImages one = work_.load(i, 1);
      if (one.read.empty()) continue;
      const ImageRelevance r = engine_.run(one.images, of_read(one, work_.targets), true)[0];
      pictures.push_back({target_text(model_.info, r.target),
                          draw_heatmap(model_.info, engine_.patches(), one.images, r.heatmap)});
    }
    return pictures;
  }

 private:
  FloatModel model_;
  Work work_;
  double epsilon_;
  RelevanceEngine engine_;
};

// Explains what a detector finds, all of it or one class.
class DetectionExplainer : public Explainer {
 public:
  explicit DetectionExplainer(const cxxopts::ParseResult& args)
      : model_(load_float_detector(args["weights"].as<std::string>(), weight_options(args))),
        photos_(choose_photos(args, model_.info)),
        exif_(exif_option(args)),
        epsilon_(epsilon_option(args)),
        engine_(model_, thread_option(args), static_cast<float>(epsilon_)) {
    if (args.count("class")) label_ = int_option(args, "class", 0, model_.info.num_classes - 1);
  }

  int64_t count() const override { return count_of(photos_); }
  Scores no_scores() const override {
    return {engine_.backbone(), model_.info.arch,
            label_ < 0 ? "detections" : cat("detections of class ", label_), epsilon_};
  }

  double add(int64_t first, int64_t n, Scores& scores) override {
    std::vector<Image> photos;
    std::vector<std::string> names;
    for (int64_t i = first; i < first + n; i++) {
      try {
        photos.push_back(load_image(at(photos_, i), exif_));
        names.push_back(at(photos_, i));
      } catch (const Error& e) {
        std::fprintf(stderr, "vitlrp: %s\n", e.what());
        scores.skipped++;
      }
    }
    double leak = 0;
    const std::vector<ExplainedPhoto> explained = engine_.run(photos, label_, false);
    for (size_t i = 0; i < explained.size(); i++) {
      if (explained[i].found.empty()) {
        std::fprintf(stderr, "vitlrp: %s: nothing was found to explain\n", names[i].c_str());
        scores.skipped++;
        continue;
      }
      scores.add(explained[i].relevance);
      leak = std::max(leak, explained[i].relevance.conservation_error);
    }
    return leak;
  }

  std::vector<Picture> draw(int64_t count) override {
    std::vector<Picture> pictures;
    for (int64_t i = 0; i < count_of(photos_) && count_of(pictures) < count; i++) {
      try {
        const ExplainedPhoto e = engine_.explain(load_image(at(photos_, i), exif_), label_, true);
        if (!e.found.empty())
          pictures.push_back({text_of(e.found),
                              draw_heatmap(model_.info, e.patches, e.image, e.relevance.heatmap)});
      } catch (const Error&) {  // add() has said so
      }
    }
    return pictures;
  }

 private:
  // "3 person, 1 car"
  std::string text_of(const std::vector<Candidate>& found) const {
    std::map<int, int> counts;
    for (const Candidate& c : found) counts[c.group]++;
    std::string text;
    for (const auto& [label, n] : counts)
      text += cat(text.empty() ? "" : ", ", n, " ", class_name(model_.info.labels, label));
    return text;
  }

  FloatDetector model_;
  std::vector<std::string> photos_;
  Exif exif_;
  double epsilon_;
  DetectorRelevance engine_;
  int label_ = -1;
};

}  // namespace

double epsilon_option(const cxxopts::ParseResult& args) {
  const double epsilon = args["epsilon"].as<double>();
  if (!(epsilon >= 0 && epsilon <= 1))
    throw UsageError(cat("--epsilon must be 0 to 1, got ", epsilon));
  return epsilon;
}

std::unique_ptr<Explainer> open_explainer(const cxxopts::ParseResult& args) {
  if (!args.count("weights")) throw UsageError("--weights is missing");
  if (is_float_detector(args["weights"].as<std::string>()))
    return std::make_unique<DetectionExplainer>(args);
  return std::make_unique<ClassifierExplainer>(args);
}

}  // namespace vitrun
