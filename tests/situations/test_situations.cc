// Runs the situations of the .txt files beside this source; README.md says what a line holds.
#include <algorithm>
#include <sstream>

#include "tests/runtime/program/program.h"

using namespace vitrun;

namespace {

namespace fs = std::filesystem;

struct Situation {
  std::string where, name, commands;
  int status = 0;
  std::vector<std::string> texts;
};

std::string trimmed(const std::string& text) {
  const size_t begin = text.find_first_not_of(' '), end = text.find_last_not_of(' ');
  return begin == text.npos ? "" : text.substr(begin, end - begin + 1);
}

std::vector<std::string> split(const std::string& text, const std::string& separator) {
  std::vector<std::string> parts;
  for (size_t begin = 0;;) {
    const size_t end = text.find(separator, begin);
    parts.push_back(trimmed(text.substr(begin, end - begin)));
    if (end == text.npos) return parts;
    begin = end + separator.size();
  }
}

Situation parse(const std::string& line, const std::string& where) {
  const auto fields = split(line, " :: ");
  REQUIRE_MESSAGE(fields.size() == 4, where << ": expected NAME :: COMMANDS :: STATUS :: TEXTS");
  Situation s{where, fields[0], fields[1], std::stoi(fields[2]), {}};
  for (const std::string& text : split(fields[3], "; "))
    if (!text.empty()) s.texts.push_back(text);
  REQUIRE_MESSAGE(!s.texts.empty(), where << ": nothing is expected to be said");
  return s;
}

std::vector<Situation> situations_of(const fs::path& file) {
  std::istringstream lines(read_bytes(file.string()));
  std::vector<Situation> out;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::string where = file.filename().string() + ":" + std::to_string(++number);
    if (!line.empty() && line[0] != '#') out.push_back(parse(line, where));
  }
  return out;
}

// Every line may use these. `$BIN` has the programs, `$EMULATOR` runs them.
constexpr const char* kPrelude = R"(
vitrun() { $EMULATOR "$BIN/vitrun" "$@"; }
vitquant() { $EMULATOR "$BIN/vitquant" "$@"; }
viteval() { $EMULATOR "$BIN/viteval" "$@"; }
vitlrp() { $EMULATOR "$BIN/vitlrp" "$@"; }
vitbench() { $EMULATOR "$BIN/vitbench" "$@"; }
make_input() { $EMULATOR "$BIN/make_input" "$@"; }
photos() { seed=1; for photo in "$@"; do make_input image "$photo" 40 36 $seed; seed=$((seed + 1)); done; }
tiny() {
  vitquant -w "$MODELS/vit.safetensors" --calib-raw "$MODELS/vit.input.npy" --method layerwise -o tiny.qbin > tiny.log 2>&1 ||
    cat tiny.log
}
)";

void check(const Situation& s) {
  const TempFolder folder;
  const std::string script =
      std::string(kPrelude) + "cd '" + folder / "" + "'\n" + s.commands + "\n";
  const Outcome done =
      execute({"/bin/sh", "-c", script},
              {std::string("BIN=") + VITRUN_BIN_DIR, std::string("EMULATOR=") + VITRUN_EMULATOR,
               "MODELS=" + golden("models"), "CLIP=" + golden("clip"),
               "IMAGES=" + golden("image/decode"), std::string("SOURCE=") + VITRUN_TEST_DIR + "/..",
               std::string("DEMO=") + VITRUN_TEST_DIR + "/../models/cifar10/demo.jpg"});
  const std::string said = done.out + done.err;
  INFO(s.where, ": ", s.name, "\n  ", s.commands, "\n", said);
  CHECK(done.status == s.status);
  for (const std::string& text : s.texts) {
    const bool wanted = text[0] != '!';
    CHECK_MESSAGE((said.find(wanted ? text : text.substr(1)) != said.npos) == wanted, text);
  }
}

std::vector<fs::path> files() {
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(std::string(VITRUN_TEST_DIR) + "/situations"))
    if (entry.path().extension() == ".txt") found.push_back(entry.path());
  std::ranges::sort(found);
  return found;
}

}  // namespace

TEST_CASE("situations: what people run into comes out as it should") {
  for (const fs::path& file : files()) {
    const auto situations = situations_of(file);
    REQUIRE_MESSAGE(!situations.empty(), file.string());
    for (const Situation& s : situations) check(s);
  }
}
