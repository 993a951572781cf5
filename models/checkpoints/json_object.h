// A JSON object of a configuration, whose getters fail with the object's path and the key where a
// value is not what a model can have.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "models/checkpoints/json.h"

namespace vitrun {

// A JSON object and its path for messages ("config.json: pretrained_cfg.mean: ..."). A key that is
// null counts as absent. The getters fail unless the key holds that type.
class Object {
 public:
  Object(const nlohmann::json& value, std::string path);

  bool has(const char* key) const;
  const nlohmann::json& at(const char* key) const;
  Object object(const char* key) const { return {at(key), path_ + ": " + key}; }
  std::string text(const char* key) const;
  bool flag(const char* key) const;
  // Returns a flag, or `absent` where there is none.
  bool flag_or(const char* key, bool absent) const { return has(key) ? flag(key) : absent; }
  double number(const char* key) const;
  int integer(const char* key) const { return as_integer(key, at(key)); }
  // Returns one positive integer or a list of them, as a list.
  std::vector<int> integers(const char* key) const;
  // Reads three numbers, or one that stands for all three.
  void read_rgb(const char* key, float (&out)[3]) const;
  // Returns (height, width), from a pair or from the one side of a square.
  std::pair<int, int> size(const char* key) const;
  int square(const char* key) const;

  const nlohmann::json& json_value() const { return value_; }
  const std::string& path() const { return path_; }

  [[noreturn]] void bad(const char* key, const char* expected) const;

 private:
  int as_integer(const char* key, const nlohmann::json& value) const;

  const nlohmann::json& value_;
  std::string path_;
};

// Read a key that may be absent.
void read(const Object& o, const char* key, int& out);
void read_count(const Object& o, const char* key, int& out);  // which may be 0
void read(const Object& o, const char* key, std::vector<int>& out);

// Fails unless the key is absent or has the given value. Another value would be another model.
template <class T>
void require(const Object& o, const char* key, const T& expected, const char* text) {
  if (o.has(key) && o.at(key) != expected) o.bad(key, text);
}

// Fails where a configuration states another flag than the shapes, from which flags come.
void check_flag(const Object& o, const char* key, bool stated, bool found);

}  // namespace vitrun
