// Output that does not fit: a message, exit status 1, and the old file as it was.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "tests/runtime/files/qbin_testing.h"
#include "tests/runtime/program/program.h"

namespace vitrun {
namespace {

const std::string kBefore = "something of before";

// The programs that write files: vitquant (the model and its page) and vitlrp (scores and its
// page).
std::vector<Command> writers(const std::string& target) {
  const Command quantize = {"vitquant", "-w", model("vit"), "--calib-raw", input_of("vit")};
  const Command score = {"vitlrp", "-w", model("vit"), "--raw", input_of("vit")};
  std::vector<Command> all;
  for (const auto& [command, option] :
       {std::pair{quantize, "-o"}, {score, "-o"}, {score, "--report"}}) {
    all.push_back(command);
    all.back().insert(all.back().end(), {option, target});
  }
  return all;
}

void check_refused(const Command& command, const std::string& target, int error) {
  write_bytes(target, kBefore);
  const Outcome done = execute(command);
  CAPTURE(command.front());
  CAPTURE(done.err);
  CHECK(done.status == 1);
  CHECK(contains(done.err, target + ": cannot write: " + std::strerror(error)));
  CHECK(read_bytes(target) == kBefore);
  std::vector<std::string> names;
  for (const auto& entry :
       std::filesystem::directory_iterator(std::filesystem::path(target).parent_path()))
    names.push_back(entry.path().string());
  CHECK(names == std::vector<std::string>{target});
}

// Two pages: one for the old file, one for a part of the new.
class TinyDisk {
 public:
  TinyDisk() : mounted_(mount("tmpfs", path().c_str(), "tmpfs", 0, "size=8192") == 0) {}
  ~TinyDisk() {
    if (mounted_) umount2(path().c_str(), MNT_DETACH);
  }
  bool mounted() const { return mounted_; }
  std::string path() const { return folder_ / ""; }

 private:
  TempFolder folder_;
  bool mounted_;
};

TEST_CASE("a full disk") {
  const TinyDisk disk;
  if (!disk.mounted()) {
    MESSAGE("SKIPPED: no tmpfs may be mounted here: ", std::strerror(errno));
    return;
  }
  const std::string target = disk.path() + "out";
  for (const Command& command : writers(target)) check_refused(command, target, ENOSPC);
}

// Without root: the limit on file sizes as an error instead of the signal that goes with it.
TEST_CASE("a file larger than the system lets it be") {
  const TempFolder folder;
  rlimit old{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &old) == 0);
  const auto handler = signal(SIGXFSZ, SIG_IGN);  // as its children inherit it
  const rlimit limit{2000, old.rlim_max};
  REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  for (const Command& command : writers(folder / "out"))
    check_refused(command, folder / "out", EFBIG);
  REQUIRE(setrlimit(RLIMIT_FSIZE, &old) == 0);
  signal(SIGXFSZ, handler);
}

TEST_CASE("results that nobody can read are a failure") {
  const Outcome done = execute(
      {"vitrun", "--model", model("vit"), "--raw", input_of("vit"), "--logits", "/dev/full"});
  CHECK(done.status == 1);
  CHECK(contains(done.err, std::string("/dev/full: cannot write: ") + std::strerror(ENOSPC)));
}

}  // namespace
}  // namespace vitrun
