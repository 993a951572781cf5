// Families in float: outputs against PyTorch's in float64 (golden/make_families.py), relevance's
// conservation, tables of positions for images of another size, refusals.
#include <cctype>

#include "lrp/walk/relevance.h"
#include "runtime/files/model_file.h"
#include "runtime/float/reference.h"
#include "tests/runtime/float/golden_families.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

// A float32 sum of n <= 100 terms errs by some 1e-6 of them. GELU by erf and by tanh are 1e-4
// apart, which must show.
constexpr double kOutputs = 2e-5;
constexpr double kConservation = 1e-3;

std::string wrong_outputs(const GoldenModel& f) {
  const FloatModel model = load_float_model(f.folder());
  Reference engine(model.graph, model.weights, 1);
  const std::vector<Tensor> got = engine.run_outputs(f.images(), f.outputs);
  std::string wrong;
  for (size_t i = 0; i < got.size(); i++) {
    const std::string of_output =
        compared(f.outputs[i], got[i], f.expected(f.outputs[i]), kOutputs);
    if (!of_output.empty()) wrong += (wrong.empty() ? "" : "; ") + of_output;
  }
  if (std::find(f.outputs.begin(), f.outputs.end(), "logits") == f.outputs.end())
    for (const Output& o : model.graph.outputs)
      if (o.name == "logits") wrong += "; logits of a model without a head";
  return wrong;
}

TEST_CASE("outputs of families equal PyTorch's") {
  for (const GoldenModel& f : golden_models("right"))
    check_family(f, "float", [&] { return wrong_outputs(f); });
}

TEST_CASE("relevance of families is conserved at every cut, heat maps have the patches alone") {
  for (const GoldenModel& f : golden_models("right"))
    check_family(f, "relevance", [&]() -> std::string {
      const FloatModel model = load_float_model(f.folder());
      RelevanceEngine engine(model.graph, model.weights, 1);
      double worst = 0;
      const MapSize patches = engine.patches();
      for (const ImageRelevance& r : engine.run(f.images(), {-1, -1}, true)) {
        worst = std::max(worst, r.conservation_error);
        if (count_of(r.heatmap) != patches.height * patches.width) return "the heat map's size";
      }
      return above("conservation error", worst, kConservation);
    });
}

std::string wrong_resized(const GoldenModel& f) {
  const TempFolder folder;
  Command command = {"vitrun",
                     "--model",
                     f.folder(),
                     "--image-size",
                     f.size,
                     "--raw",
                     kFamilies + "images_" + f.size + ".npy"};
  for (const std::string& output : f.outputs)
    command.insert(command.end(), {"--" + output, folder / (output + ".npy")});
  const Outcome outcome = execute(command);
  if (outcome.status != 0) return outcome.err;
  for (const std::string& output : f.outputs) {
    const std::string wrong =
        compared(output, read_npy(folder / (output + ".npy")), f.expected(output), kOutputs);
    if (!wrong.empty()) return wrong;
  }
  return "";
}

TEST_CASE("positions are resized as each library does it") {
  for (const GoldenModel& f : golden_models("resized"))
    check_family(f, "resized", [&] { return wrong_resized(f); });
}

std::string lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

// The model's own folder has the name too, so what names it does not count.
std::string wrong_refusal(const GoldenModel& f) {
  std::string said;
  try {
    load_float_model(f.folder());
    return "it is not refused";
  } catch (const Error& e) {
    said = e.what();
  }
  std::string rest = said;
  for (size_t at; (at = rest.find(f.folder())) != rest.npos;) rest.erase(at, f.folder().size());
  if (lower(rest).find(lower(f.words)) != rest.npos) return "";
  return cat("no '", f.words, "' in: ", said);
}

TEST_CASE("families that are not run are refused by name") {
  for (const GoldenModel& f : golden_models("refused"))
    check_family(f, "refused", [&] { return wrong_refusal(f); });
}

TEST_CASE("every line of pending.txt is a check of a model of list.txt") {
  std::set<std::string> known;
  for (const char* state : {"right", "resized", "refused"})
    for (const GoldenModel& f : golden_models(state))
      for (const char* check : {"float", "relevance", "w8", "w4", "coded", "resized", "refused"})
        known.insert(f.name + " " + check);
  if (!chosen_family())
    for (const std::string& line : pending_checks()) CHECK_MESSAGE(known.contains(line), line);
}

}  // namespace
}  // namespace vitrun
