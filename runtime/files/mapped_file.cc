#include "runtime/files/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "models/base/error.h"

namespace vitrun {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void fail_system(const std::string& path, const char* what, int error) {
  throw FileError(cat(path, ": cannot ", what, ": ", std::generic_category().message(error)));
}

}  // namespace

MappedFile::MappedFile(const std::string& path) {
  // O_NONBLOCK makes opening a pipe that nobody writes to not wait. Regular files ignore it.
  const Descriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail_system(path, "open", errno);
  struct stat info;
  if (fstat(file.get(), &info) != 0) fail_system(path, "stat", errno);
  if (!S_ISREG(info.st_mode)) {
    const char* found = S_ISDIR(info.st_mode) ? "directory" : "pipe or device";
    throw FileError(cat(path, ": expected a regular file, found a ", found));
  }
  if (info.st_size == 0) return;  // mmap refuses a length of 0
  if (!std::in_range<size_t>(info.st_size)) fail_system(path, "map", EFBIG);
  const size_t size = static_cast<size_t>(info.st_size);
  void* data = mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
  if (data == MAP_FAILED) fail_system(path, "map", errno);
  data_ = static_cast<const uint8_t*>(data);
  size_ = size;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) munmap(const_cast<uint8_t*>(data_), size_);
}

}  // namespace vitrun
