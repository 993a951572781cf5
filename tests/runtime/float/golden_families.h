// The models of golden/families (make_families.py), each of which several tests hold to something.
//
// VITRUN_FAMILY=PATTERN in the environment ('*' stands for any text) has the tests look at these
// models alone, print what each check gives and mind no pending.txt. VITRUN_FAMILIES_FAILING=FILE
// adds the checks that fail to FILE, in the form of pending.txt.
#pragma once

#include <doctest/doctest.h>
#include <fnmatch.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "models/base/error.h"
#include "models/base/tensor.h"
#include "runtime/files/npy.h"

namespace vitrun {

inline const std::string kFamilies = VITRUN_TEST_DIR "/golden/families/";

// A line of list.txt.
struct GoldenModel {
  std::string name, state;           // "right", "resized" or "refused"
  std::string weights, size;         // a folder; HxW of the images
  std::vector<std::string> outputs;  // names
  std::string words;                 // a refusal's

  std::string folder() const { return kFamilies + (weights.empty() ? name : weights); }
  Tensor images() const { return read_npy(kFamilies + "images_" + size + ".npy"); }
  Tensor expected(const std::string& output) const {
    return read_npy(kFamilies + name + "/" + output + ".npy");
  }
};

inline std::ifstream family_file(const std::string& name) {
  std::ifstream in(kFamilies + name);
  REQUIRE_MESSAGE(in.good(), name);
  return in;
}

inline GoldenModel golden_model(const std::string& line) {
  GoldenModel f;
  std::istringstream in(line);
  in >> f.name >> f.state;
  if (f.state == "refused") {
    std::getline(in >> std::ws, f.words);
    return f;
  }
  std::string outputs;
  in >> f.weights >> f.size >> outputs;
  std::istringstream names(outputs);
  for (std::string output; std::getline(names, output, ',');) f.outputs.push_back(output);
  REQUIRE_MESSAGE(!f.outputs.empty(), line);
  return f;
}

inline const char* chosen_family() {
  return std::getenv("VITRUN_FAMILY");
}

// The models in `state` that VITRUN_FAMILY does not leave out.
inline std::vector<GoldenModel> golden_models(const std::string& state) {
  std::vector<GoldenModel> found;
  std::ifstream in = family_file("list.txt");
  for (std::string line; std::getline(in, line);) {
    if (line.empty() || line[0] == '#') continue;
    const GoldenModel f = golden_model(line);
    if (f.state != state) continue;
    if (!chosen_family() || fnmatch(chosen_family(), f.name.c_str(), 0) == 0) found.push_back(f);
  }
  return found;
}

// Lines "FOLDER CHECK" of what is known to fail so far.
inline const std::set<std::string>& pending_checks() {
  static const std::set<std::string> pending = [] {
    std::set<std::string> lines;
    std::ifstream in = family_file("pending.txt");
    for (std::string line; std::getline(in, line);)
      if (!line.empty() && line[0] != '#') lines.insert(line);
    return lines;
  }();
  return pending;
}

// `work` returns what is wrong, empty where nothing is. A pending check must find something.
inline void check_family(const GoldenModel& model, const std::string& check,
                         const std::function<std::string()>& work) {
  std::string wrong;
  try {
    wrong = work();
  } catch (const std::exception& e) {
    wrong = e.what();
  }
  const std::string line = model.name + " " + check;
  if (const char* path = std::getenv("VITRUN_FAMILIES_FAILING"); path && !wrong.empty())
    std::ofstream(path, std::ios::app) << line << '\n';
  if (chosen_family()) MESSAGE(line, ": ", wrong.empty() ? "right" : wrong);
  if (chosen_family() || !pending_checks().contains(line))
    CHECK_MESSAGE(wrong.empty(), line, ": ", wrong);
  else
    CHECK_MESSAGE(!wrong.empty(), line, " is right now: take it out of pending.txt");
}

// Returns what is wrong where `measured` is above `bound` or not a number.
inline std::string above(const std::string& what, double measured, double bound) {
  return measured <= bound ? "" : cat(what, " ", measured, ", at most ", bound, " expected");
}

inline std::string dims_text(const Dims& dims) {
  std::string text;
  for (int64_t n : dims) text += (text.empty() ? "" : "x") + std::to_string(n);
  return text;
}

// Returns what is wrong with a value: its shape, or the largest difference beside the largest
// value.
inline std::string compared(const std::string& output, const Tensor& got, const Tensor& want,
                            double bound) {
  if (got.dims != want.dims)
    return cat(output, " is ", dims_text(got.dims), ", ", dims_text(want.dims), " expected");
  double worst = 0, largest = 0;
  for (size_t i = 0; i < got.data.size(); i++) {
    const double apart = std::fabs(double{got.data[i]} - double{want.data[i]});
    worst = std::isnan(apart) ? INFINITY : std::max(worst, apart);
    largest = std::max(largest, std::fabs(double{want.data[i]}));
  }
  return above(cat("relative error of ", output), worst / largest, bound);
}

}  // namespace vitrun
