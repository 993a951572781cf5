// A whole regular file, mapped read-only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace vitrun {

// Owns the mapping. Spans taken from bytes() live as long as the object they came from, or the one
// it was moved into. Many threads may read them. If the file is truncated while it is mapped, this
// process gets a SIGBUS; so replace files by renaming, as QbinWriter does.
class MappedFile {
 public:
  // Fails with the path and the system's reason if the file cannot be opened or mapped, or is not a
  // regular file. An empty file is an empty span. Never blocks on a pipe or a device.
  explicit MappedFile(const std::string& path);
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  ~MappedFile();

  std::span<const uint8_t> bytes() const { return {data_, size_}; }

 private:
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace vitrun
