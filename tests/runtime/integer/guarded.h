// A buffer that ends where an unmapped page begins, so that reading or writing past it faults; what
// lies before it in its pages is a canary.
#pragma once

#include <doctest/doctest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <vector>

namespace vitrun {

template <class T>
class Guarded {
 public:
  explicit Guarded(size_t count, T fill = T()) : count_(count) {
    const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    used_ = (count * sizeof(T) + page - 1) / page * page + page;
    map_ = static_cast<uint8_t*>(
        mmap(nullptr, used_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    REQUIRE(map_ != MAP_FAILED);
    REQUIRE(mprotect(map_ + used_, page, PROT_NONE) == 0);
    length_ = used_ + page;
    std::memset(map_, kCanary, used_);
    for (size_t i = 0; i < count; i++) data()[i] = fill;
  }
  explicit Guarded(const std::vector<T>& values) : Guarded(values.size()) {
    if (!values.empty()) std::memcpy(data(), values.data(), values.size() * sizeof(T));
  }
  ~Guarded() { munmap(map_, length_); }
  Guarded(const Guarded&) = delete;
  Guarded& operator=(const Guarded&) = delete;

  T* data() { return reinterpret_cast<T*>(map_ + used_) - count_; }
  const T* data() const { return reinterpret_cast<const T*>(map_ + used_) - count_; }
  T& operator[](size_t i) { return data()[i]; }
  std::vector<T> values() const { return std::vector<T>(data(), data() + count_); }
  bool canary_intact() const {
    for (const uint8_t* p = map_; p < reinterpret_cast<const uint8_t*>(data()); p++) {
      if (*p != kCanary) return false;
    }
    return true;
  }

 private:
  static constexpr uint8_t kCanary = 0xA5;
  uint8_t* map_;
  size_t count_, used_, length_;
};

}  // namespace vitrun
