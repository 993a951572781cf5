#include "models/checkpoints/json_object.h"

#include <cmath>

#include "models/base/error.h"

namespace vitrun {

using nlohmann::json;

Object::Object(const json& value, std::string path) : value_(value), path_(std::move(path)) {
  if (!value.is_object()) fail(path_, ": expected a JSON object");
}

bool Object::has(const char* key) const {
  const auto it = value_.find(key);
  return it != value_.end() && !it->is_null();
}

const json& Object::at(const char* key) const {
  if (!has(key)) fail(path_, ": no '", key, "'");
  return value_[key];
}

std::string Object::text(const char* key) const {
  if (!at(key).is_string()) bad(key, "a string");
  return at(key).get<std::string>();
}

bool Object::flag(const char* key) const {
  if (!at(key).is_boolean()) bad(key, "true or false");
  return at(key).get<bool>();
}

double Object::number(const char* key) const {
  if (!at(key).is_number()) bad(key, "a number");
  return at(key).get<double>();
}

std::vector<int> Object::integers(const char* key) const {
  const json& value = at(key);
  if (!value.is_array()) return {as_integer(key, value)};
  std::vector<int> list;
  for (const json& v : value) list.push_back(as_integer(key, v));
  if (list.empty()) bad(key, "an integer or a list of integers");
  return list;
}

void Object::read_rgb(const char* key, float (&out)[3]) const {
  const json& value = at(key);
  for (size_t i = 0; i < 3; i++) {
    const json& v = value.is_array() && value.size() == 3 ? value[i] : value;
    if (!v.is_number()) bad(key, "three numbers");
    out[i] = v.get<float>();
  }
}

std::pair<int, int> Object::size(const char* key) const {
  const std::vector<int> sides = integers(key);
  if (sides.size() > 2) bad(key, "one or two integers");
  return {sides.front(), sides.back()};
}

int Object::square(const char* key) const {
  const auto [height, width] = size(key);
  if (height != width) bad(key, "a square");
  return height;
}

void Object::bad(const char* key, const char* expected) const {
  fail(path_, ": '", key, "' is ", at(key).dump().substr(0, 60), ", expected ", expected);
}

int Object::as_integer(const char* key, const json& value) const {
  const double d = value.is_number() ? value.get<double>() : 0;
  if (!(d >= 1 && d <= 1e6) || d != std::floor(d)) bad(key, "a positive integer");
  return static_cast<int>(d);
}

void read_count(const Object& o, const char* key, int& out) {
  if (o.has(key)) out = o.at(key) == 0 ? 0 : o.integer(key);
}
void read(const Object& o, const char* key, int& out) {
  if (o.has(key)) out = o.integer(key);
}

void read(const Object& o, const char* key, std::vector<int>& out) {
  if (o.has(key)) out = o.integers(key);
}

void check_flag(const Object& o, const char* key, bool stated, bool found) {
  if (stated != found)
    fail(o.path(), ": '", key, "' is ", o.at(key).dump().substr(0, 20),
         ", but the weights say otherwise");
}

}  // namespace vitrun
