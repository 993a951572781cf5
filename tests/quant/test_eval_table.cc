// viteval --table: rows as vitquant and viteval would answer one by one, and continued runs.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>

#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

using nlohmann::json;

TEST_CASE("a table holds what vitquant and viteval say, and is continued, not repeated") {
  const TempFolder folder;
  std::string list;
  for (int i = 0; i < 6; i++) {
    folder.file(std::to_string(i) + ".bmp", bmp(20, 18, i + 1));
    list += std::to_string(i) + ".bmp " + std::to_string(i) + "\n";
  }
  const std::string images = folder.file("list.txt", list), state = folder / "t.json";
  const std::string rows = "# a comment\n\nplain | --method layerwise --wbits 4\n";
  const auto table = [&](const std::string& text, const std::string& weights = "vit") {
    return execute({"viteval", "--table", folder.file("rows.txt", text), "-w", model(weights),
                    "--calib", images, "--images", images, "--seeds", "0,3", "-o", state});
  };
  const Outcome first = table(rows);
  CAPTURE(first.err);
  REQUIRE(first.status == 0);
  json done = json::parse(read_bytes(state));
  REQUIRE(done["cells"].size() == 2);
  for (const json& cell : done["cells"]) {
    const std::string qbin = folder / "m.qbin";
    output_of({"vitquant", "-w", model("vit"), "--calib", images, "--method", "layerwise",
               "--wbits", "4", "--seed", std::to_string(cell["seed"].get<int>()), "-o", qbin});
    const json one = json::parse(output_of(
        {"viteval", "--model", qbin, "--images", images, "--reference", model("vit"), "--json"}));
    for (const char* field : {"top1", "top5", "agreement", "logits_error"})
      CHECK(cell[field] == one[field]);
    CHECK(cell["bytes"] == std::filesystem::file_size(qbin));
    CHECK(cell["weight_bits"] == 4);
  }
  CHECK(first.out.find("| plain | ") != first.out.npos);

  done["cells"][0]["top1"] = 0.125;  // a mark that a repetition would remove
  done["cells"][1]["top1"] = 0.375;
  write_bytes(state, done.dump());
  const Outcome second = table(rows + "fewer | --wbits 3 --abits 6\n");
  CHECK(second.status == 0);
  CHECK(second.out.find("| plain | 25.00 (12.50 37.50) |") != second.out.npos);
  CHECK(json::parse(read_bytes(state))["cells"].size() == 4);

  CHECK(table(rows, "deit3").err.find("is of other weights") != std::string::npos);
  write_bytes(state, "{}");
  CHECK(table(rows).status == 1);
}

TEST_CASE("rows that mean nothing are refused before anything is computed") {
  const TempFolder folder;
  folder.file("0.bmp", bmp(20, 18, 1));
  const std::string images = folder.file("list.txt", "0.bmp 0\n");
  const std::tuple<const char*, int, const char*> bad[] = {
      {"", 1, "no rows"},
      {"--wbits 4\n", 1, "rows.txt:1: expected `name | vitquant options`"},
      {"a | --wbits 9\n", 2, "row 'a': --wbits must be 3 to 8"},
      {"a | --bites 4\n", 2, "row 'a': "},
      {"a | --rounding nearest\n", 2, "row 'a': --rounding is no longer an option: --without"},
      {"a | stray\n", 2, "row 'a': unexpected 'stray'"}};
  for (const auto& [text, status, message] : bad) {
    const Outcome done =
        execute({"viteval", "--table", folder.file("rows.txt", text), "-w", model("vit"), "--calib",
                 images, "--images", images, "-o", folder / "t.json"});
    CAPTURE(done.err);
    CHECK(done.status == status);
    CHECK(done.err.find(message) != done.err.npos);
    CHECK(!std::filesystem::exists(folder / "t.json"));
  }
}

}  // namespace
}  // namespace vitrun
