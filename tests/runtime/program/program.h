// Runs the programs under test, and keeps their files in a folder of its own.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "tests/runtime/program/bmp.h"

namespace vitrun {

inline std::string read_bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  REQUIRE_MESSAGE(in.good(), path);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary);
  out << bytes;
  REQUIRE_MESSAGE(out.flush().good(), path);
}

inline std::string golden(const std::string& name) {
  return std::string(VITRUN_TEST_DIR) + "/golden/" + name;
}

// The golden model of that name, its input and PyTorch's logits for it.
inline std::string model(const std::string& name) {
  return golden("models/" + name + ".safetensors");
}

inline std::string input_of(const std::string& name) {
  return golden("models/" + name + ".input.npy");
}

inline std::string logits_of(const std::string& name) {
  return golden("models/" + name + ".logits.npy");
}

// A folder that goes with the object. Its name holds a space, as users' folders do.
class TempFolder {
 public:
  TempFolder() {
    std::string name = std::filesystem::temp_directory_path().string() + "/vitrun test XXXXXX";
    REQUIRE(mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  // The path of a new file with this content.
  std::string file(const std::string& name, const std::string& bytes) const {
    write_bytes(*this / name, bytes);
    return *this / name;
  }

 private:
  std::string path_;
};

struct Outcome {
  int status;  // the exit status, or 128 + the signal
  std::string out, err;
};

using Command = std::vector<std::string>;  // one of our programs or a path, then its arguments

// Starts it with an empty standard input.
inline pid_t start(Command command, const std::vector<std::string>& environment,
                   const std::string& out_path, const std::string& err_path) {
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, out_path.c_str(), flags, 0600);
  posix_spawn_file_actions_addopen(&files, STDERR_FILENO, err_path.c_str(), flags, 0600);

  if (!command.front().starts_with("/")) {
    command.front() = std::string(VITRUN_BIN_DIR) + "/" + command.front();
    if (*VITRUN_EMULATOR) command.insert(command.begin(), VITRUN_EMULATOR);
  }
  std::vector<char*> arguments, variables;
  for (std::string& word : command) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  for (const std::string& v : environment) variables.push_back(const_cast<char*>(v.c_str()));
  for (char** v = environ; *v; v++) variables.push_back(*v);
  variables.push_back(nullptr);

  pid_t child = 0;
  const int error =
      posix_spawn(&child, arguments[0], &files, nullptr, arguments.data(), variables.data());
  posix_spawn_file_actions_destroy(&files);
  REQUIRE_MESSAGE(error == 0, "cannot run " << command.front());
  return child;
}

// Runs it to the end. `environment`: further NAME=VALUE. `out`: where stdout goes instead of
// Outcome::out.
inline Outcome execute(const Command& command, const std::vector<std::string>& environment = {},
                       const std::string& out = "") {
  const TempFolder folder;
  const std::string out_path = out.empty() ? folder / "out" : out, err_path = folder / "err";
  const pid_t child = start(command, environment, out_path, err_path);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          out.empty() ? read_bytes(out_path) : "", read_bytes(err_path)};
}

// The same for a command that must succeed; what it printed.
inline std::string output_of(const Command& command,
                             const std::vector<std::string>& environment = {}) {
  const Outcome done = execute(command, environment);
  REQUIRE_MESSAGE(done.status == 0, command.front() << ": " << done.err);
  return done.out;
}

}  // namespace vitrun
