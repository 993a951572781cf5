#include "quant/report/eval_table.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "models/base/error.h"
#include "models/checkpoints/json.h"
#include "quant/options.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/weight_files.h"
#include "runtime/program/cli.h"
#include "runtime/program/evaluate.h"
#include "runtime/program/html.h"

namespace vitrun {
namespace {

using Json = nlohmann::ordered_json;

// A temporary file that is removed with the object.
struct Scratch {
  std::string path = (std::filesystem::temp_directory_path() / cat("viteval-", getpid(), ".qbin"));
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove(path, ignored);
  }
};

// Adds the options of vitquant that say the same.
void add_words(const WeightOptions& options, std::vector<std::string>& words) {
  if (!options.arch.empty()) words.insert(words.end(), {"--arch", options.arch});
  if (!options.config.empty()) words.insert(words.end(), {"--config", options.config});
  if (options.heads) words.insert(words.end(), {"--heads", std::to_string(options.heads)});
  if (options.pool != Pool::kOpen)
    words.insert(words.end(), {"--pool", options.pool == Pool::kToken ? "token" : "avg"});
}

QuantizeJob job_of(const TableOptions& options, const TableRow& row, int seed) {
  std::vector<std::string> words = {"vitquant",
                                    "--weights",
                                    options.weights,
                                    "--calib",
                                    options.calibration,
                                    "--seed",
                                    std::to_string(seed),
                                    "--exif",
                                    exif_name(options.exif)};
  std::istringstream in(row.options);
  for (std::string word; in >> word;) words.push_back(word);
  add_words(options.predictor.weights, words);
  std::vector<const char*> arguments;
  for (const std::string& word : words) arguments.push_back(word.c_str());
  cxxopts::Options parser("vitquant");
  add_quantize_options(parser);
  try {
    const auto count = static_cast<int>(arguments.size());
    if (const std::string why = removed_option(count, arguments.data()); !why.empty())
      throw UsageError(why);
    const auto parsed = parser.parse(count, arguments.data());
    if (!parsed.unmatched().empty())
      throw UsageError(cat("unexpected '", parsed.unmatched()[0], "'"));
    return read_job(parsed);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {  // UsageError, or one of the parser
    throw UsageError(cat("row '", row.name, "': ", e.what()));
  }
}

// The logits of the float model for all samples that could be read, and its accuracy.
struct FloatModelResults {
  Tensor logits;
  Evaluation accuracy;
};

FloatModelResults run_float(const TableOptions& options, const std::vector<Sample>& samples) {
  PredictorOptions predictor = options.predictor;
  predictor.isa.clear();
  const auto model = open_predictor(options.weights, predictor);
  if (model->info().num_classes == 0)
    fail(options.weights, ": a model without classes, which --table does not evaluate");
  FloatModelResults results;
  results.logits = Tensor({static_cast<int64_t>(samples.size()), model->info().num_classes});
  class Keeping : public Predictor {  // keeps the logits of each run
   public:
    Keeping(Predictor& model, Tensor& logits) : model_(model), next_(logits.data.begin()) {}
    const ModelInfo& info() const override { return model_.info(); }
    std::string engine() const override { return model_.engine(); }
    std::vector<std::string> outputs() const override { return model_.outputs(); }
    std::vector<Tensor> run(const Tensor& images, const std::vector<std::string>& names) override {
      std::vector<Tensor> y = model_.run(images, names);
      next_ = std::copy(y[0].data.begin(), y[0].data.end(), next_);
      return y;
    }

   private:
    Predictor& model_;
    std::vector<float>::iterator next_;
  } keeping(*model, results.logits);
  ImageLoader loader(model->info(), options.exif);
  ProgressBar bar("float");
  results.accuracy =
      evaluate(keeping, {}, loader, samples, static_cast<size_t>(predictor.max_batch),
               [&](double done) { bar.update(done); });
  results.logits = slice(results.logits, 0, results.accuracy.images);
  return results;
}

Json run_cell(const TableOptions& options, const TableRow& row, int seed,
              const std::vector<Sample>& samples, const Tensor& expected) {
  QuantizeJob job = job_of(options, row, seed);
  const Scratch scratch;
  ProgressBar bar(cat(row.name, ", seed ", seed));
  const auto start = std::chrono::steady_clock::now();
  const Quantized quantized = quantize_model(std::move(job.model), job.calibration, job.options,
                                             [&](double done) { bar.update(0.5 * done); });
  const double seconds = seconds_since(start);
  quantized.file.write(scratch.path);
  const auto model = open_predictor(scratch.path, options.predictor);
  const auto slice_of = [&](int64_t first, const Tensor& images) {
    if (first + images.dims[0] > expected.dims[0])
      fail("images that could not be read before can be read now");
    return slice(expected, first, images.dims[0]);
  };
  ImageLoader loader(model->info(), options.exif);
  const Evaluation e =
      evaluate(*model, slice_of, loader, samples, static_cast<size_t>(options.predictor.max_batch),
               [&](double done) { bar.update(0.5 + 0.5 * done); });
  Json cell = {{"name", row.name}, {"options", row.options}, {"seed", seed}};
  if (e.labelled) {
    cell["top1"] = e.top1_share();
    cell["top5"] = e.top5_share();
  }
  cell["agreement"] = e.agreement();
  cell["logits_error"] = e.logits_error();
  cell["weight_bits"] = mean_weight_bits(quantized.units);
  cell["bytes"] = std::filesystem::file_size(scratch.path);
  cell["seconds"] = seconds;
  return cell;
}

// A state is continued only where its head equals this one.
Json head_of(const TableOptions& options, size_t images) {
  const auto name = [](const std::string& path) {
    const std::filesystem::path p = std::filesystem::path(path).lexically_normal();
    return (p.has_filename() ? p : p.parent_path()).filename().string();
  };
  return {{"weights", name(options.weights)},
          {"weight_bytes", std::filesystem::file_size(WeightFiles(options.weights).path())},
          {"calibration", name(options.calibration)},
          {"labels", name(options.images)},
          {"images", images},
          {"exif", exif_name(options.exif)}};
}

Json load_state(const TableOptions& options, const Json& head) {
  if (!std::filesystem::exists(options.state)) return {{"head", head}, {"cells", Json::array()}};
  const nlohmann::json state = read_json(options.state, 4);
  try {
    if (state.at("head") != nlohmann::json(head))
      fail(options.state, ": is of other weights, calibration or images; remove it to begin anew");
    for (const auto& cell : state.at("cells"))
      cell.at("options").get<std::string>(), cell.at("seed").get<int>(),
          cell.at("agreement").get<double>(), cell.at("bytes").get<int64_t>(),
          cell.at("weight_bits").get<double>(), cell.at("seconds").get<double>();
  } catch (const nlohmann::json::exception& e) {
    fail(options.state, ": expected what viteval --table wrote: ", e.what());
  }
  return state;
}

const Json* find_cell(const Json& state, const TableRow& row, int seed) {
  for (const Json& cell : state.at("cells"))
    if (cell.at("options") == row.options && cell.at("seed") == seed) return &cell;
  return nullptr;
}

// Returns the mean of a field over seeds; `each` adds the single values.
std::string column(const std::vector<const Json*>& cells, const char* field, double factor,
                   int digits, bool each) {
  std::string all;
  double sum = 0;
  for (const Json* cell : cells) {
    if (!cell->contains(field)) return "";
    const double value = factor * cell->at(field).get<double>();
    sum += value;
    all += (all.empty() ? "" : " ") + fixed(value, digits);
  }
  const std::string mean = fixed(sum / static_cast<double>(cells.size()), digits);
  return each && cells.size() > 1 ? mean + " (" + all + ")" : mean;
}

std::string markdown(const TableOptions& options, const Json& state) {
  const Json& head = state.at("head");
  std::string text =
      cat(head.at("weights").get<std::string>(), ", calibration on ",
          head.at("calibration").get<std::string>(), ", ", head.at("images").get<int64_t>(),
          " images of ", head.at("labels").get<std::string>());
  if (state.contains("skipped") && state.at("skipped") != 0)
    text += cat(", of which ", state.at("skipped").get<int64_t>(), " could not be read");
  if (state.contains("float"))
    text += cat(", float ", fixed(100 * state.at("float").get<double>(), 2), " %");
  text +=
      ".\n\n| | top-1, % (by seed) | agreement, % | bits a weight | bytes | quantized in, s |\n"
      "|---|---|---|---|---|---|\n";
  for (const TableRow& row : options.rows) {
    std::vector<const Json*> cells;
    for (int seed : options.seeds) cells.push_back(find_cell(state, row, seed));
    text +=
        cat("| ", row.name, " | ", column(cells, "top1", 100, 2, true), " | ",
            column(cells, "agreement", 100, 2, false), " | ",
            column(cells, "weight_bits", 1, 2, false), " | ", column(cells, "bytes", 1, 0, false),
            " | ", column(cells, "seconds", 1, 1, false), " |\n");
  }
  return text;
}

}  // namespace

std::vector<TableRow> read_rows(const std::string& path) {
  std::ifstream in(path);
  if (!in) throw FileError(cat(path, ": cannot open"));
  const auto trimmed = [](const std::string& text) {
    const size_t first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
    return first == std::string::npos ? std::string() : text.substr(first, last - first + 1);
  };
  std::vector<TableRow> rows;
  int number = 0;
  for (std::string line; std::getline(in, line);) {
    number++;
    if (trimmed(line).empty() || trimmed(line)[0] == '#') continue;
    const size_t bar = line.find('|');
    if (bar == std::string::npos || trimmed(line.substr(0, bar)).empty())
      fail(path, ":", number, ": expected `name | vitquant options`");
    rows.push_back({trimmed(line.substr(0, bar)), trimmed(line.substr(bar + 1))});
  }
  if (rows.empty()) fail(path, ": no rows");
  return rows;
}

std::string make_table(const TableOptions& options, const std::vector<Sample>& samples) {
  std::string note;
  for (const TableRow& row : options.rows) note = job_of(options, row, 0).note;  // or wrong use
  std::cerr << note;
  const Json head = head_of(options, samples.size());
  Json state = load_state(options, head);
  Tensor expected;
  for (const TableRow& row : options.rows)
    for (int seed : options.seeds) {
      if (find_cell(state, row, seed)) continue;
      if (expected.data.empty()) {
        FloatModelResults results = run_float(options, samples);
        expected = std::move(results.logits);
        std::cerr << unread_note(results.accuracy.unread);
        state["skipped"] = results.accuracy.unread.size();
        if (results.accuracy.labelled) state["float"] = results.accuracy.top1_share();
      }
      state["cells"].push_back(run_cell(options, row, seed, samples, expected));
      write_file(options.state, state.dump(1) + "\n");
    }
  return markdown(options, state);
}

}  // namespace vitrun
