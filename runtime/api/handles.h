// The parts of the C ABI share this: the model's handle, arguments checked, exceptions turned into
// status codes.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <new>
#include <string>

#include "kernels/registry.h"
#include "models/base/error.h"
#include "runtime/api/vitrun.h"
#include "runtime/integer/qmodel.h"

namespace vitrun::api {

// The handles share this, so that a model may be closed before its sessions.
struct Opened {
  QuantModel model;
  std::map<std::string, std::string> metadata;  // as text
};

}  // namespace vitrun::api

struct vit_model {
  std::shared_ptr<const vitrun::api::Opened> opened;
};

namespace vitrun::api {

class ArgumentError : public Error {
 public:
  using Error::Error;
};

// Keeps the words for vit_last_error() and returns the status.
vit_status remember(vit_status status, const char* text);

// Runs body() and turns what it throws into a status.
template <class Body>
vit_status guard(const Body& body) {
  try {
    body();
    return VIT_OK;
  } catch (const ArgumentError& e) {
    return remember(VIT_ERROR_ARGUMENT, e.what());
  } catch (const FileError& e) {
    return remember(VIT_ERROR_FILE, e.what());
  } catch (const SystemError& e) {
    return remember(VIT_ERROR_SYSTEM, e.what());
  } catch (const Error& e) {
    return remember(VIT_ERROR_MODEL, e.what());
  } catch (const std::bad_alloc&) {
    return remember(VIT_ERROR_MEMORY, "out of memory");
  } catch (const std::exception& e) {
    return remember(VIT_ERROR_SYSTEM, e.what());
  }
}

template <class... Parts>
void require(bool holds, const Parts&... parts) {
  if (!holds) throw ArgumentError(cat(parts...));
}

// Sets *out to what make() gives, and to NULL where that fails.
template <class Handle, class Make>
vit_status create(Handle** out, const Make& make) {
  if (!out) return remember(VIT_ERROR_ARGUMENT, "out is NULL");
  *out = nullptr;
  return guard([&] { *out = make(); });
}

// A caller's options, or the defaults; fields that an older caller did not know stay at theirs.
template <class Options>
Options read_options(const Options* given) {
  Options options{};
  if (!given) return options;
  require(given->struct_size >= sizeof(size_t) && given->struct_size <= 4096,
          "struct_size must be the size of the options, got ", given->struct_size);
  std::memcpy(&options, given, std::min(given->struct_size, sizeof options));
  return options;
}

bool is_detector(const vit_model* model);

// Throws ArgumentError where there is none of that name.
const Kernels& kernels_called(const char* isa);

// How many threads a session has whose options say `asked`.
int thread_count(int asked);

bool is_image_size(int width, int height);

void check_image(int width, int height, ptrdiff_t row_bytes);

}  // namespace vitrun::api
