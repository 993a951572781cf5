// A file is old or new, and whole, when the program that writes it is killed.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>

#include <random>
#include <thread>

#include "models/base/error.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

// Runs the command so often, killed after a random part of the time that it takes; `target` must
// always hold `before` or what a whole run writes.
void kill_at_random(const Command& command, const std::string& target, const std::string& before) {
  const TempFolder output;
  const auto begin = std::chrono::steady_clock::now();
  output_of(command);
  const std::chrono::duration<double> whole = std::chrono::steady_clock::now() - begin;
  const std::string after = read_bytes(target);
  REQUIRE(after != before);
  std::mt19937 random(11);
  int old = 0;
  for (int i = 0; i < 100; i++) {
    write_bytes(target, before);
    const pid_t child = start(command, {}, output / "out", output / "err");
    const double part = 1.2 * static_cast<double>(random()) / 0x1p32;
    std::this_thread::sleep_for(whole * part);
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    const std::string found = read_bytes(target);
    old += found == before;
    REQUIRE((found == before || found == after));
  }
  MESSAGE(command.front(), ": the old file ", old, " times, the new one ", 100 - old);
  output_of(command);  // which clears away what the killed ones left
  size_t files = 0;
  for ([[maybe_unused]] const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(target).parent_path()))
    files++;
  CHECK(files == 1);
}

TEST_CASE("killed at any moment, vitquant leaves the old file or the new one") {
  const TempFolder folder;
  const std::string target = folder.file("vit.qbin", "something of before");
  kill_at_random({"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "-o", target},
                 target, "something of before");
}

TEST_CASE("and so does vitlrp") {
  const TempFolder folder;
  const std::string target = folder.file("scores.json", "something of before");
  kill_at_random({"vitlrp", "--weights", model("vit"), "--raw", input_of("vit"), "-o", target},
                 target, "something of before");
}

// A limit on file sizes kills in the middle of a write, after exactly so many bytes.
TEST_CASE("killed in the middle of writing, vitquant leaves the old file") {
  const TempFolder folder;
  const std::string target = folder / "vit.qbin";
  const Command command = {"vitquant",      "-w", model("vit"), "--calib-raw",
                           input_of("vit"), "-o", target};
  output_of(command);
  const size_t size = read_bytes(target).size();
  rlimit old{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
  for (size_t bytes : {size_t{8192}, size / 2, size - 1}) {
    write_bytes(target, "something of before");
    const rlimit limit{bytes, old.rlim_max};
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    const Outcome done = execute(command);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
    CHECK(done.status == 128 + SIGXFSZ);
    CHECK(read_bytes(target) == "something of before");
  }
  output_of(command);
  CHECK(read_bytes(target).size() == size);
}

TEST_CASE("a file that two write at once is one of theirs") {
  const TempFolder folder, output;
  const std::string target = folder / "vit.qbin";
  std::vector<std::string> whole;
  std::vector<Command> commands;
  for (const char* bits : {"3", "4", "8"}) {
    commands.push_back({"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit"), "--wbits",
                        bits, "-o", target});
    output_of(commands.back());
    whole.push_back(read_bytes(target));
  }
  for (int round = 0; round < 5; round++) {
    std::vector<pid_t> children;
    for (size_t i = 0; i < commands.size(); i++)
      children.push_back(start(commands[i], {}, output / cat("out", i), output / cat("err", i)));
    for (pid_t child : children) {
      int status = 0;
      REQUIRE(waitpid(child, &status, 0) == child);
      CHECK(status == 0);
    }
    const std::string found = read_bytes(target);
    CHECK((found == whole[0] || found == whole[1] || found == whole[2]));
  }
}

}  // namespace
}  // namespace vitrun
