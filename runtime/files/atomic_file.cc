#include "runtime/files/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <system_error>
#include <utility>

#include "models/base/error.h"

namespace vitrun {
namespace {

[[noreturn]] void fail_system(const std::string& path, const char* what, int error) {
  throw FileError(cat(path, ": cannot ", what, ": ", std::generic_category().message(error)));
}

// A file beside `target` that takes its place when committed and vanishes otherwise. It is locked
// as long as it lives. A file without a lock was left behind by a killed process and is used again.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : target_(target) {
    constexpr int kTries = 100;  // at most so many processes may write to the target at once
    for (int i = 0; i < kTries && fd_ < 0; i++) {
      path_ = cat(target, ".tmp", i);
      constexpr int kFlags = O_WRONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC;
      fd_ = ::open(path_.c_str(), kFlags | O_CREAT | O_EXCL, 0666);
      const bool created = fd_ >= 0;
      if (!created && errno != EEXIST) break;
      if (!created) fd_ = ::open(path_.c_str(), kFlags);
      if (fd_ >= 0 && !is_ours(created)) close(std::exchange(fd_, -1));
    }
    if (fd_ < 0) fail_system(path_, "create", errno);
    if (ftruncate(fd_, 0) != 0) fail_system(path_, "create", errno);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (fd_ < 0) return;
    if (!committed_) unlink(path_.c_str());
    close(fd_);  // also removes the lock
  }

  void write(std::span<const uint8_t> bytes) {
    while (!bytes.empty()) {
      const ssize_t written = ::write(fd_, bytes.data(), bytes.size());
      if (written < 0 && errno == EINTR) continue;
      if (written <= 0) fail_system(target_, "write", written < 0 ? errno : ENOSPC);
      bytes = bytes.subspan(static_cast<size_t>(written));
    }
  }

  void commit() {
    if (fsync(fd_) != 0) fail_system(target_, "write", errno);
    if (rename(path_.c_str(), target_.c_str()) != 0) fail_system(target_, "replace", errno);
    committed_ = true;
  }

 private:
  // Whether this process holds the lock and the file is still there: another process may have
  // committed it since it was opened. Where the file system has no locks, a file that this process
  // created is ours.
  bool is_ours(bool created) const {
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0) return created && errno != EWOULDBLOCK;
    struct stat opened, named;
    return fstat(fd_, &opened) == 0 && S_ISREG(opened.st_mode) &&
           stat(path_.c_str(), &named) == 0 && opened.st_dev == named.st_dev &&
           opened.st_ino == named.st_ino;
  }

  std::string target_, path_;
  int fd_ = -1;
  bool committed_ = false;
};

// Makes a rename in the folder survive a power cut. Failures are ignored, since not every file
// system or permission allows it and the file is complete either way.
void sync_folder(const std::filesystem::path& folder) {
  const char* path = folder.empty() ? "." : folder.c_str();
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

void check_replaceable(const std::string& path) {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (exists(status) && !is_regular_file(status))
    fail(path, ": expected a regular file to replace, found a folder, pipe or device");
}

}  // namespace

void check_writable(const std::string& path) {
  check_replaceable(path);
  const TemporaryFile temporary(path);
}

void write_file(const std::string& path, std::span<const uint8_t> bytes) {
  check_replaceable(path);
  TemporaryFile temporary(path);
  temporary.write(bytes);
  temporary.commit();
  sync_folder(std::filesystem::path(path).parent_path());
}

void write_file(const std::string& path, std::string_view text) {
  write_file(path, std::span(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

}  // namespace vitrun
