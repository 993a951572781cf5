// SCORES.json: sums that do not depend on order, merging, ranking; and vitlrp as users run it.
#include <doctest/doctest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "lrp/walk/scores.h"
#include "models/base/error.h"
#include "runtime/files/model_file.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

using nlohmann::json;

TEST_CASE("exact sums do not depend on order and survive text") {
  std::mt19937_64 random(1);
  std::lognormal_distribution<double> draw(-15, 6);  // many orders of magnitude
  std::vector<double> values(2000);
  long double reference = 0;
  for (double& v : values) reference += v = draw(random);
  ExactSum forward, backward, halves[2];
  for (double v : values) forward.add(v);
  for (size_t i = values.size(); i-- > 0;) backward.add(values[i]);
  for (size_t i = 0; i < values.size(); i++) halves[i % 2].add(values[i]);
  halves[0].add(halves[1]);
  CHECK(forward == backward);
  CHECK(forward == halves[0]);
  CHECK(forward.value() == doctest::Approx(static_cast<double>(reference)).epsilon(1e-14));
  CHECK(ExactSum::from_text(forward.text()) == forward);
  ExactSum negative;
  negative.add(-0.375);
  CHECK(negative.value() == -0.375);
  CHECK(ExactSum::from_text(negative.text()) == negative);
  for (const char* bad : {"", "-", "1x", "99999999999999999999999999999999999999999"})
    CHECK_THROWS_AS(ExactSum::from_text(bad), Error);
  CHECK_THROWS_AS(forward.add(INFINITY), Error);
}

TEST_CASE("Kendall's tau of known rankings") {
  CHECK(kendall_tau({1, 2, 3, 4}, {10, 20, 30, 40}) == doctest::Approx(1));
  CHECK(kendall_tau({1, 2, 3, 4}, {4, 3, 2, 1}) == doctest::Approx(-1));
  CHECK(kendall_tau({1, 2, 3, 4}, {1, 2, 4, 3}) == doctest::Approx(4.0 / 6));
  // Kendall's tau-b, which counts ties: (concordant - discordant) / sqrt((n0 - n1)(n0 - n2)) = 5 /
  // sqrt(5 * 6).
  CHECK(kendall_tau({1, 1, 2, 3}, {1, 2, 3, 4}) == doctest::Approx(5 / std::sqrt(30.0)));
}

json scores_of(const TempFolder& folder, const std::vector<std::string>& more,
               const std::string& name = "s.json") {
  Command command = {"vitlrp", "-w", model("swin"), "--raw", input_of("swin"), "-o", folder / name};
  command.insert(command.end(), more.begin(), more.end());
  output_of(command);
  return json::parse(read_bytes(folder / name));
}

TEST_CASE("cli: vitlrp scores every unit, importances sum to 1") {
  const TempFolder folder;
  const json scores = scores_of(folder, {});
  CHECK(scores["images"] == 2);
  CHECK(scores["target"] == "predicted");
  const FloatModel swin = load_float_model(model("swin"));
  const std::vector<std::string> units = scored_units(swin.graph);
  REQUIRE(scores["units"].size() == units.size());
  double sum = 0;
  for (size_t u = 0; u < units.size(); u++) {
    CHECK(scores["units"][u]["name"] == units[u]);
    CHECK(scores["units"][u]["contribution"].get<double>() > 0);
    sum += scores["units"][u]["importance"].get<double>();
  }
  CHECK(sum == doctest::Approx(1).epsilon(1e-12));
}

TEST_CASE("cli: resumed and merged scores are those of one run, byte for byte") {
  const TempFolder folder;
  scores_of(folder, {}, "whole.json");
  scores_of(folder, {"--limit", "1"}, "resumed.json");
  scores_of(folder, {"--resume", "--threads", "1"}, "resumed.json");
  CHECK(read_bytes(folder / "resumed.json") == read_bytes(folder / "whole.json"));

  std::string list;
  for (int i = 0; i < 3; i++) {
    folder.file(cat(i, ".bmp"), bmp(20, 18, i + 1));
    list += cat(i, ".bmp ", i, "\n");
  }
  const std::string path = folder.file("list.txt", list);
  const auto run = [&](const std::vector<std::string>& more) {
    Command command = {"vitlrp", "-w", model("vit"), "--images", path};
    command.insert(command.end(), more.begin(), more.end());
    output_of(command);
  };
  run({"-o", folder / "all.json", "--heatmap", folder / "h.png", "--report", folder / "r.html"});
  run({"-o", folder / "a.json", "--shard", "0/2"});
  run({"-o", folder / "b.json", "--shard", "1/2"});
  output_of({"vitlrp", "merge", folder / "b.json", folder / "a.json", "-o", folder / "sum.json"});
  CHECK(read_bytes(folder / "sum.json") == read_bytes(folder / "all.json"));
  CHECK(read_bytes(folder / "h.png").starts_with("\x89PNG"));
  const std::string page = read_bytes(folder / "r.html");
  CHECK(page.find("blocks.1.mlp.fc2") != std::string::npos);
  CHECK(page.find("data:image/png;base64,iVBOR") != std::string::npos);

  run({"-o", folder / "class.json", "--class", "3"});
  const Outcome mixed = execute(
      {"vitlrp", "merge", folder / "all.json", folder / "class.json", "-o", folder / "x.json"});
  CHECK(mixed.status == 1);
  CHECK(mixed.err.find("class.json") != std::string::npos);

  // The rules of the scores are in their file, and files of other rules are not added.
  CHECK(read_bytes(folder / "all.json").find("\"epsilon\": 0.01") != std::string::npos);
  run({"-o", folder / "published.json", "--epsilon", "0"});
  const Outcome rules = execute(
      {"vitlrp", "merge", folder / "all.json", folder / "published.json", "-o", folder / "x.json"});
  CHECK(rules.status == 1);
  CHECK(rules.err.find("scores with epsilon 0.01 do not go with those with epsilon 0") !=
        std::string::npos);
}

TEST_CASE("cli: a report shows the bits of a .qbin of the same model") {
  const TempFolder folder;
  const std::string page = folder / "r.html", qbin = folder / "m.qbin";
  output_of({"vitquant", "-w", model("swin"), "--calib-raw", input_of("swin"), "--wbits", "5",
             "--abits", "7", "-o", qbin});
  scores_of(folder, {"--report", page, "--qbin", qbin});
  const std::string text = read_bytes(page);
  CHECK(text.find(">5/7</text>") != std::string::npos);
  CHECK(text.find(">7</text>") != std::string::npos);  // matmul1: no weight
  const Outcome other = execute(
      {"vitlrp", "-w", model("vit"), "--raw", input_of("vit"), "--qbin", qbin, "--report", page});
  CHECK(other.status == 1);
  CHECK(other.err.find("another model") != std::string::npos);
}

TEST_CASE("cli: shards of a raw tensor are its images one by one") {
  const TempFolder folder;
  const json whole = scores_of(folder, {}, "whole.json");
  const json second = scores_of(folder, {"--shard", "1/2"}, "b.json");
  scores_of(folder, {"--shard", "0/2"}, "a.json");
  CHECK(second["images"] == 1);
  output_of({"vitlrp", "merge", folder / "a.json", folder / "b.json", "-o", folder / "sum.json"});
  CHECK(read_bytes(folder / "sum.json") == read_bytes(folder / "whole.json"));
}

TEST_CASE("cli: three MPI processes give the bytes of one, also when they resume") {
#ifdef VITRUN_MPIRUN
  const TempFolder folder;
  std::string list;
  for (int i = 0; i < 23; i++) {
    folder.file(cat(i, ".bmp"), bmp(20, 18, i + 1));
    list += cat(i, ".bmp ", i % 10, "\n");
  }
  const Command one = {"vitlrp",    "-w", model("vit"), "--images", folder.file("list.txt", list),
                       "--threads", "1",  "-o",         ""};
  const auto run = [&](int ranks, const std::string& out, const std::vector<std::string>& more) {
    Command command = one;
    command.back() = out;
    command.insert(command.end(), more.begin(), more.end());
    if (ranks > 1) {
      command[0] = std::string(VITRUN_BIN_DIR) + "/vitlrp";
      const Command start = {VITRUN_MPIRUN, "--oversubscribe", "-n", cat(ranks)};
      command.insert(command.begin(), start.begin(), start.end());
    }
    return output_of(command, {"OMPI_ALLOW_RUN_AS_ROOT=1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1"});
  };
  const std::string whole = folder / "whole.json", shared = folder / "shared.json";
  const std::string said = run(1, whole, {});
  CHECK(run(3, shared, {}) == said);
  CHECK(read_bytes(shared) == read_bytes(whole));
  const std::string resumed = folder / "resumed.json";
  run(1, resumed, {"--limit", "5"});
  run(3, resumed, {"--resume", "--until-stable"});
  run(2, resumed, {"--resume"});
  CHECK(read_bytes(resumed) == read_bytes(whole));
#else
  MESSAGE("skipped: built without MPI (-DVITRUN_MPI=ON)");
#endif
}

TEST_CASE("cli: vitlrp refuses wrong use and bad files") {
  const TempFolder folder;
  const std::string vit = model("vit"), input = input_of("vit");
  const std::string bad = folder.file("bad.json", "{\"model\": 3}");
  const struct {
    Command command;
    int status;
    const char* says;
  } rows[] = {
      {{"vitlrp"}, 2, "--weights"},
      {{"vitlrp", "-w", vit}, 2, "--images or --raw"},
      {{"vitlrp", "-w", vit, "--raw", input, "--class", "10"}, 1, "10 classes"},
      {{"vitlrp", "-w", vit, "--raw", input, "--labels", input}, 1, ""},
      {{"vitlrp", "-w", vit, "--images", folder / "none", "--shard", "0/2"}, 1, "none"},
      {{"vitlrp", "-w", vit, "--raw", input, "--resume"}, 2, "-o"},
      {{"vitlrp", "-w", vit, "--raw", input, "--resume", "-o", bad}, 1, "bad.json"},
      {{"vitlrp", "-w", vit, "--raw", input, "--epsilon", "1.5"}, 2, "--epsilon must be 0 to 1"},
      {{"vitlrp", "-w", vit, "--raw", input, "--epsilon", "nan"}, 2, "nan"},
      {{"vitlrp", "add"}, 2, "merge"},
      {{"vitlrp", "merge"}, 2, "merge"},
      {{"vitlrp", "merge", folder / "no.json", "-o", folder / "x"}, 1, "no.json"},
      {{"vitlrp", "-w", folder / "no.safetensors", "--raw", input}, 1, "no.safetensors"},
  };
  for (const auto& row : rows) {
    const Outcome done = execute(row.command);
    CAPTURE(row.says);
    CAPTURE(done.err);
    CHECK(done.status == row.status);
    CHECK(done.err.find(row.says) != std::string::npos);
  }
  for (const char* shard : {"", "1", "2/2", "-1/2", "0/0", "0/2x", "x/2", "1/", "99999999999/2"})
    CHECK(execute({"vitlrp", "-w", vit, "--raw", input, "--shard", shard}).status == 2);
}

}  // namespace
}  // namespace vitrun
