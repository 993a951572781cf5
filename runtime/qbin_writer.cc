// The writer; the format is specified in qbin.h.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <system_error>
#include <type_traits>
#include <utility>

#include "models/status.h"
#include "runtime/crc32.h"
#include "runtime/qbin.h"

namespace vitrun {
namespace {

using Buffer = std::vector<uint8_t>;

template <class T>
void put(Buffer& out, T value) {
  uint8_t bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.insert(out.end(), std::begin(bytes), std::end(bytes));
}

// Puts a number as the format's narrower type; the reader's tighter limits are checked afterwards.
template <class T, class Number>
void put_as(Buffer& out, Number value) {
  if (!std::in_range<T>(value)) fail("a size or number of ", value, " does not fit a .qbin");
  put(out, static_cast<T>(value));
}

void append(Buffer& out, std::span<const uint8_t> bytes) {
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void put_name(Buffer& out, const std::string& name) {
  put_as<uint16_t>(out, name.size());
  out.insert(out.end(), name.begin(), name.end());
}

template <class T>
void put_value(Buffer& out, const T& value) {
  if constexpr (std::is_arithmetic_v<T>) {
    put(out, value);
  } else {
    put_as<uint32_t>(out, value.size());
    if constexpr (std::is_same_v<T, std::string>) {
      out.insert(out.end(), value.begin(), value.end());
    } else {
      for (const auto& element : value) put_value(out, element);
    }
  }
}

uint64_t aligned(uint64_t size) {
  return (size + kQbinAlign - 1) / kQbinAlign * kQbinAlign;
}

[[noreturn]] void fail_system(const std::string& path, const char* what, int error) {
  fail(path, ": cannot ", what, ": ", std::generic_category().message(error));
}

// A new file beside `target` that takes its place when committed and vanishes otherwise.
class TemporaryFile {
 public:
  explicit TemporaryFile(const std::string& target) : target_(target) {
    constexpr int kTries = 100;  // names left behind by crashed runs, or in use
    for (int i = 0; i < kTries && fd_ < 0; i++) {
      path_ = cat(target, ".tmp", i);
      fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd_ < 0 && errno != EEXIST) break;
    }
    if (fd_ < 0) fail_system(path_, "create", errno);
  }
  TemporaryFile(const TemporaryFile&) = delete;
  TemporaryFile& operator=(const TemporaryFile&) = delete;
  ~TemporaryFile() {
    if (fd_ >= 0) close(fd_);
    if (!committed_) unlink(path_.c_str());
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
    if (close(std::exchange(fd_, -1)) != 0) fail_system(target_, "write", errno);
    if (rename(path_.c_str(), target_.c_str()) != 0) fail_system(target_, "replace", errno);
    committed_ = true;
  }

 private:
  std::string target_, path_;
  int fd_ = -1;
  bool committed_ = false;
};

// Makes a rename in the folder survive a power cut. Best effort: not every file system or
// permission allows it, and the file is complete either way.
void sync_folder(const std::filesystem::path& folder) {
  const char* path = folder.empty() ? "." : folder.c_str();
  const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  fsync(fd);
  close(fd);
}

}  // namespace

void QbinWriter::set(const std::string& key, QbinValue value) {
  if (!metadata_.emplace(key, std::move(value)).second) fail("metadata '", key, "' is set twice");
}

void QbinWriter::add(const std::string& name, DType dtype, int bits, const Dims& dims,
                     std::span<const uint8_t> bytes) {
  if (!names_.insert(name).second) fail("tensor '", name, "' is added twice");
  tensors_.push_back({name, dtype, bits, dims, {bytes.begin(), bytes.end()}, crc32(bytes)});
}

Buffer QbinWriter::metadata_section() const {
  Buffer out;
  for (const auto& [key, value] : metadata_) {
    put_name(out, key);
    put_as<uint8_t>(out, value.index() + 1);
    std::visit([&](const auto& alternative) { put_value(out, alternative); }, value);
  }
  return out;
}

Buffer QbinWriter::table_section(uint64_t data_start) const {
  Buffer out;
  uint64_t end = data_start;
  for (const Entry& tensor : tensors_) {
    const uint64_t offset = aligned(end), size = tensor.bytes.size();
    put_name(out, tensor.name);
    put(out, tensor.dtype);
    put_as<uint8_t>(out, tensor.bits);
    put_as<uint8_t>(out, tensor.dims.size());
    put(out, uint8_t{0});
    put(out, tensor.crc);
    put(out, offset);
    put(out, size);
    for (int64_t dim : tensor.dims) put(out, dim);
    end = offset + size;
  }
  return out;
}

Buffer QbinWriter::build(const std::string& where) const {
  const Buffer metadata = metadata_section();
  const size_t table_size = table_section(0).size();  // the same wherever the data starts

  QbinHeader header{};
  std::copy(std::begin(kQbinMagic), std::end(kQbinMagic), header.magic);
  header.major_version = kQbinMajor;
  header.minor_version = kQbinMinor;
  header.table_offset = sizeof header + metadata.size();
  header.head_size = aligned(header.table_offset + table_size);
  header.file_size = header.head_size;
  for (const Entry& tensor : tensors_) {
    header.file_size = aligned(header.file_size) + tensor.bytes.size();
  }
  header.key_count = static_cast<uint32_t>(metadata_.size());
  header.tensor_count = static_cast<uint32_t>(tensors_.size());

  Buffer file(sizeof header);
  file.reserve(header.file_size);
  append(file, metadata);
  append(file, table_section(header.head_size));
  for (const Entry& tensor : tensors_) {
    file.resize(aligned(file.size()));
    append(file, tensor.bytes);
  }
  file.resize(header.file_size);  // pads the head where there are no tensors
  std::memcpy(file.data(), &header, sizeof header);
  header.checksum = qbin_checksum(std::span(file).first(header.head_size));
  std::memcpy(file.data(), &header, sizeof header);
  QbinFile(file, where);  // fails where the format's limits are not kept
  return file;
}

Buffer QbinWriter::serialize() const {
  return build(".qbin in memory");
}

void QbinWriter::write(const std::string& path) const {
  std::error_code ignored;
  const std::filesystem::file_status status = std::filesystem::status(path, ignored);
  if (exists(status) && !is_regular_file(status)) {
    fail(path, ": expected a regular file to replace, found a folder, pipe or device");
  }
  const Buffer file = build(path);
  TemporaryFile temporary(path);
  temporary.write(file);
  temporary.commit();
  sync_folder(std::filesystem::path(path).parent_path());
}

}  // namespace vitrun
