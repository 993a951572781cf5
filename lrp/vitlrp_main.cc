// The program vitlrp: it scores the layers of a model by layer-wise relevance.
#include <malloc.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <numeric>
#include <optional>

#include "lrp/program/explainer.h"
#include "lrp/program/image_work.h"
#include "lrp/report/perturb.h"
#include "lrp/report/ranks.h"
#include "models/base/error.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/model_file.h"
#include "runtime/float/blas.h"
#include "runtime/program/cli.h"

namespace vitrun {
namespace {

volatile std::sig_atomic_t interrupted = 0;

// Compares the order of importances each time the number of images has doubled.
class Stability {
 public:
  explicit Stability(bool verbose) : verbose_(verbose) {}

  // Whether the order is (nearly) that of half as many images.
  bool settled(const Scores& scores) {
    if (scores.images < next_) return false;
    next_ = 2 * scores.images;
    const std::vector<double> now = scores.importance();
    const double tau = last_.empty() ? 0 : kendall_tau(now, last_);
    last_ = now;
    if (tau > 0 && verbose_)
      std::fprintf(stderr, "%jd images: Kendall tau %.3f to half as many\n",
                   static_cast<intmax_t>(scores.images), tau);
    return tau >= 0.98;
  }

 private:
  bool verbose_;
  int64_t next_ = 8;
  std::vector<double> last_;
};

// Prints the units' importances, the highest first.
void print_scores(const Scores& scores) {
  const auto importance = scores.importance(), contribution = scores.contribution(),
             error = scores.standard_error();
  std::vector<size_t> order(scores.units.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return importance[a] > importance[b]; });
  std::printf("%jd images, target: %s\n  importance  contribution  +- error     unit\n",
              static_cast<intmax_t>(scores.images), scores.target.c_str());
  for (size_t u : order)
    std::printf("  %8.4f %%  %.4e  %.2e  %s\n", 100 * importance[u], contribution[u], error[u],
                scores.units[u].name.c_str());
  std::printf("Kendall tau to gradient x input: %.3f\n",
              kendall_tau(scores.contribution(), scores.gradient_input()));
}

Scores start_scores(const cxxopts::ParseResult& args, const Explainer& explainer) {
  Scores scores = explainer.no_scores();
  if (!args.count("resume")) return scores;
  if (!args.count("output")) throw UsageError("--resume goes on with the file that -o names");
  const std::string path = args["output"].as<std::string>();
  if (!std::filesystem::exists(path)) return scores;
  scores.merge(read_scores(path));
  if (scores.images + scores.skipped > explainer.count())
    fail(path, ": has ", scores.images + scores.skipped, " images already, the list only ",
         explainer.count());
  return scores;
}

struct AccumulateOptions {
  bool until_stable;  // stop once the order of importances has settled
  int64_t batch;      // images that each rank takes in a round
};

// Adds the images from the first that `scores` does not have on until all are done, the order is
// stable or the user interrupts. The ranks share each round of images, so that the images done are
// always the front of the list, and a run may be resumed with another number of ranks.
void accumulate(const Ranks& ranks, Explainer& explainer, AccumulateOptions options,
                Scores& scores) {
  Scores own = scores;  // this rank's sums; those of rank 0 include what was resumed
  if (ranks.rank() > 0) own = explainer.no_scores();
  Stability stability(ranks.rank() == 0);
  double leak = 0;
  std::optional<ProgressBar> bar;
  if (ranks.rank() == 0) bar.emplace("relevance");
  const auto start = std::chrono::steady_clock::now();
  const int64_t before = scores.images;
  int64_t done = before + scores.skipped;
  for (bool stop = false; done < explainer.count() && !stop;) {
    const int64_t round = std::min(options.batch * ranks.count(), explainer.count() - done);
    const Range r = share(round, ranks.rank(), ranks.count());
    if (const int64_t first = done + r.begin, n = r.end - r.begin; n > 0)
      leak = std::max(leak, explainer.add(first, n, own));
    done += round;
    if (bar) bar->update(ratio(done, explainer.count()));
    stop = ranks.any(interrupted != 0);
    if (options.until_stable) stop = stability.settled(ranks.sum(own)) || stop;
  }
  scores = ranks.sum(own);
  const double seconds = seconds_since(start);
  if (ranks.rank() == 0)
    std::fprintf(stderr, "%jd images in %.1f s, %.1f images/s, relevance conserved to %.1e%s\n",
                 static_cast<intmax_t>(scores.images - before), seconds,
                 static_cast<double>(scores.images - before) / seconds, leak,
                 interrupted ? "; interrupted, what was done is kept" : "");
}

// Makes freed memory stay with the process. The walk allocates and frees megabytes all the time,
// which the system would otherwise map and zero anew each time.
void keep_memory() {
#if defined(__GLIBC__)
  mallopt(M_MMAP_THRESHOLD, 1 << 30);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
#endif
}

int explain(const cxxopts::ParseResult& args) {
  keep_memory();
  const Ranks ranks;
  const auto explainer = open_explainer(args);
  check_outputs(args, {"output", "heatmap", "report"});
  const int threads = thread_option(args);
  Scores scores = start_scores(args, *explainer);
  std::signal(SIGINT, [](int) { interrupted = 1; });
  accumulate(ranks, *explainer, {args.count("until-stable") > 0, std::max(2 * threads, 4)}, scores);
  if (scores.images == 0) {
    if (!interrupted) fail("none of ", explainer->count(), " images could be explained");
    return 1;
  }
  if (ranks.rank() > 0) return 0;
  BitLabels bits;
  if (args.count("qbin")) bits = bit_labels(args["qbin"].as<std::string>(), scores);
  if (args.count("output")) write_scores(scores, args["output"].as<std::string>());
  print_scores(scores);
  if (args.count("heatmap"))
    write_file(args["heatmap"].as<std::string>(), explainer->draw(1)[0].png);
  if (args.count("report"))
    write_file(args["report"].as<std::string>(), report_page(scores, bits, explainer->draw(4)));
  return interrupted ? 1 : 0;
}

int merge(const cxxopts::ParseResult& args, const std::vector<std::string>& files) {
  if (files.empty() || !args.count("output"))
    throw UsageError("vitlrp merge A.json B.json ... -o SUM.json");
  Scores scores = read_scores(files[0]);
  for (size_t i = 1; i < files.size(); i++) {
    try {
      scores.merge(read_scores(files[i]));
    } catch (const FileError&) {
      throw;
    } catch (const Error& e) {
      fail(files[i], ": ", e.what());
    }
  }
  write_scores(scores, args["output"].as<std::string>());
  print_scores(scores);
  return 0;
}

// Prints the curves of the perturbation test, one line for each step.
void print_curves(const std::vector<PerturbationCurve>& curves, int64_t images) {
  std::printf("%jd images\n  removed", static_cast<intmax_t>(images));
  for (const PerturbationCurve& c : curves) std::printf("  %17s", c.order.c_str());
  for (size_t step = 0; step < curves[0].accuracy.size(); step++) {
    std::printf("\n  %5zu %%", 100 * step / curves[0].accuracy.size());
    for (const PerturbationCurve& c : curves) std::printf("  %15.2f %%", 100 * c.accuracy[step]);
  }
  std::printf("\n  area   ");
  for (const PerturbationCurve& c : curves) std::printf("  %17.4f", c.area);
  std::printf("\n");
}

int perturb(const cxxopts::ParseResult& args) {
  keep_memory();
  if (!args.count("weights")) throw UsageError("--weights is missing");
  const FloatModel model = load_weights(args["weights"].as<std::string>(), weight_options(args));
  if (model.info.num_classes == 0) fail("perturb counts right classes, and this model has none");
  const Work work = choose_work(args, model.info, true);
  if (args.count("raw")) throw UsageError("perturb needs --images with labels");
  for (int64_t i = 0; i < work.count; i++)
    if (at(work.labels, i) < 0) fail("image ", i, " of the list has no label");
  check_outputs(args, {"output"});
  const int threads = thread_option(args);
  PerturbationTest test(model.graph, model.weights, threads,
                        static_cast<float>(epsilon_option(args)));
  std::vector<UnreadImage> unread;
  ProgressBar bar("perturbing");
  const int64_t batch = std::max(2 * threads, 4);
  for (int64_t first = 0; first < work.count; first += batch) {
    const int64_t n = std::min(batch, work.count - first);
    const LoadedImages images = work.load(first, n);
    unread.insert(unread.end(), images.unread.begin(), images.unread.end());
    if (!images.read.empty()) test.add(images.images, of_read(images, work.labels));
    bar.update(ratio(first + n, work.count));
  }
  std::fputs(unread_note(unread).c_str(), stderr);
  const int64_t images = work.count - count_of(unread);
  if (images == 0) fail("none of ", work.count, " images could be read");
  const auto curves = test.curves();
  print_curves(curves, images);
  if (args.count("output"))
    write_curves(curves, images, count_of(unread), args["output"].as<std::string>());
  return 0;
}

int run(const cxxopts::ParseResult& args) {
  if (!args.count("command")) return explain(args);
  std::vector<std::string> words = args["command"].as<std::vector<std::string>>();
  if (words[0] == "perturb" && words.size() == 1) return perturb(args);
  if (words[0] != "merge")
    throw UsageError(cat("unknown command '", words[0], "': expected merge, perturb, or none"));
  words.erase(words.begin());
  return merge(args, words);
}

}  // namespace
}  // namespace vitrun

int main(int argc, char** argv) {
  vitrun::choose_blas_kernels(argv);
  cxxopts::Options options("vitlrp",
                           "Scores the layers of a vision transformer, classifier or detector, by "
                           "layer-wise relevance.");
  options.add_options()  //
      ("w,weights", "a .safetensors with timm or transformers names",
       cxxopts::value<std::string>())                                                         //
      ("images", "a folder, or a list of `path label` lines", cxxopts::value<std::string>())  //
      ("raw", "or a .npy of float32 [N, 3, H, W], already normalised",
       cxxopts::value<std::string>())                                                     //
      ("class", "explain this class; default: the predicted one", cxxopts::value<int>())  //
      ("labels", "explain the labels of this list of `path label` lines, whose images are taken",
       cxxopts::value<std::string>())                             //
      ("limit", "at most so many images", cxxopts::value<int>())  //
      ("shard", "I/N: only every N-th image from the I-th on; see merge",
       cxxopts::value<std::string>())  //
      ("until-stable",
       "stop once doubling the images leaves the order of importances (tau >= 0.98)")  //
      ("resume", "go on with the file that -o names")                                  //
      ("epsilon",
       "damps relevance where sums cancel, by so much of their terms; 0: the published rule",
       cxxopts::value<double>()->default_value(vitrun::cat(vitrun::kEpsilon)))                //
      ("heatmap", "a PNG: the first image and its relevance", cxxopts::value<std::string>())  //
      ("report", "an HTML page: importances and heat maps", cxxopts::value<std::string>())    //
      ("qbin", "report: show the bits that this file gives each unit",
       cxxopts::value<std::string>())  //
      ("t,threads", "threads, each with an image of its own; default: one per CPU",
       cxxopts::value<int>())                                              //
      ("o,output", "SCORES.json to write", cxxopts::value<std::string>())  //
      ("command", "merge or perturb", cxxopts::value<std::vector<std::string>>());
  vitrun::add_exif_option(options);
  vitrun::add_weight_options(options);
  options.parse_positional({"command"});
  options.positional_help("[merge FILE... | perturb]");
  const std::string examples =
      "  vitlrp --weights vit/model.safetensors --images train/ --limit 256 --until-stable -o "
      "scores.json\n"
      "  vitlrp --weights vit/model.safetensors --images cats/ --class 281 --heatmap cat.png\n"
      "  vitlrp --weights vit.safetensors --images list.txt --shard 0/4 -o part0.json\n"
      "  vitlrp merge part0.json part1.json part2.json part3.json -o scores.json\n"
      "  mpirun -n 8 vitlrp --weights vit.safetensors --images train/ --threads 1 -o scores.json\n"
      "  vitlrp perturb --weights vit/model.safetensors --images val/list.txt -o curves.json\n";
  return vitrun::run_program(options, examples, argc, argv, vitrun::run);
}
